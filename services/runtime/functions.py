"""What this host knows of one function that was invoked here: its configuration, what waits, its sandboxes."""

import asyncio
from collections import deque
from collections.abc import Mapping

from evenflow.control.v1 import resources_pb2

from services.policy import function_rules
from services.policy.arns import function_arn
from services.runtime.admission import limit_key_of, provisioned_key_of
from services.runtime.function_log import FunctionLog
from services.runtime.layers import NO_LAYERS, Layers
from services.runtime.packages import Package
from services.runtime.provision import Provision
from services.runtime.runs import Run
from services.runtime.runtimes import Launch
from services.runtime.sandboxes import Sandbox
from services.runtime.seats import Seat

LATEST = "$LATEST"
# Names that control takes; which of them this host really offers, its RuntimeTable says.
RUNTIMES = function_rules.RUNTIMES


class HostedFunction:
    """One function on this host; the dispatcher changes it."""

    def __init__(self, function: resources_pb2.Function, log: FunctionLog) -> None:
        self.key = function.tenant_id, function.function_name
        self.log = log
        # On demand. Of the busy ones some may be provisioned: `provisioned` counts those apart.
        self.idle: list[Sandbox] = []
        self.busy = 0
        self.starting = 0
        self.provisioned = Provision()
        self.provisioned_key = provisioned_key_of(*self.key)
        # Starts in a row that the machine refused, and when the next is tried.
        self.start_failures = 0
        self.start_retry: asyncio.TimerHandle | None = None
        self.waiting: deque[Run] = deque()
        self.waiting_sync = 0
        self.next_expiry_ms = 0.0
        self.service_ms: float | None = None
        self.last_end_ms = 0.0
        # When a run had last ended as of the last timer: a stalled loop must not look like stalled handlers.
        self.quiet_mark_ms = -1.0
        self.last_used_ms = 0.0
        # When a run of it began last.
        self.last_begun_ms = 0.0
        # Of sandboxes that crashed or timed out: the replacement gets the same /tmp.
        self.kept_seats: list[Seat] = []
        # All three are there or none is.
        self.package: Package | None = None
        self.launch: Launch | None = None
        self.layers: Layers = NO_LAYERS
        self.preparing: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.code_key = b""
        self.take(function)

    def take(self, function: resources_pb2.Function) -> bool:
        """Use this configuration from now on; returns whether sandboxes of the old one are stale."""
        self.function = function
        self.version = function.latest
        is_reserved = function.HasField("reserved_concurrency")
        self.is_reserved = is_reserved
        self.is_closed = is_reserved and function.reserved_concurrency == 0
        self.limit_key = limit_key_of(*self.key, is_reserved)
        code_key = function.latest.SerializeToString(deterministic=True)
        changed, self.code_key = code_key != self.code_key, code_key
        if changed:
            self.package, self.launch, self.layers = None, None, NO_LAYERS
        return changed

    @property
    def sandboxes(self) -> int:
        """All that exist, those that are still starting included."""
        provisioned = self.provisioned
        return len(self.idle) + self.busy + self.starting + len(provisioned.idle) + provisioned.starting

    @property
    def is_unused(self) -> bool:
        """Whether it can be forgotten."""
        return not (self.sandboxes or self.waiting or self.kept_seats or self.preparing or self.provisioned.target)


def environment_of(
    function: resources_pb2.Function,
    fleet: resources_pb2.Fleet | None,
    log_stream: str,
    of_runtime: Mapping[str, str],
) -> dict[str, str]:
    """The variables that AWS sets, and the function's own, which cannot replace AWS's.

    of_runtime: those of its runtime, see runtimes.environment_of.
    """
    region = (fleet.region if fleet is not None else "") or "us-east-1"
    version = function.latest
    return {
        **{name: value for name, value in of_runtime.items() if not function_rules.is_reserved(name)},
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "HOME": "/tmp",
        **version.environment,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **{name: value for name, value in of_runtime.items() if function_rules.is_reserved(name)},
        "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": version.version or LATEST,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.function_name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "_HANDLER": version.handler,
    }


def arn_of(function: resources_pb2.Function, fleet: resources_pb2.Fleet | None) -> str:
    """The function's ARN with its version."""
    region = (fleet.region if fleet is not None else "") or "us-east-1"
    account = (fleet.account_id if fleet is not None else "") or "0" * 12
    return function_arn(region, account, function.function_name, LATEST)
