"""What this host knows of one version of a function that was invoked here: configuration, what waits, sandboxes.

Code and sandboxes are a version's. Limits, log and usage are the function's: versions of one function meet there by
`HostedFunction.key`.
"""

import asyncio
from collections import deque

from evenflow.control.v1 import resources_pb2

from services.policy import function_rules
from services.policy.accounts import account_of
from services.policy.arns import LATEST, function_arn
from services.runtime.admission import limit_key_of, provisioned_key_of
from services.runtime.function_log import FunctionLog
from services.runtime.layers import NO_LAYERS, Layers
from services.runtime.packages import Package
from services.runtime.provision import Provision
from services.runtime.runs import Run
from services.runtime.runtimes import Launch
from services.runtime.sandboxes import Sandbox
from services.runtime.seats import Seat

# Names that control takes; which of them this host really offers, its RuntimeTable says.
RUNTIMES = function_rules.RUNTIMES

FunctionKey = tuple[str, str]
VersionKey = tuple[str, str, str]


class HostedFunction:
    """One version of a function on this host; the dispatcher changes it.

    key: tenant and function. number: "$LATEST" or the version's number; version_key: all three.
    """

    def __init__(
        self, function: resources_pb2.Function, version: resources_pb2.FunctionVersion, log: FunctionLog
    ) -> None:
        self.key: FunctionKey = (function.tenant_id, function.function_name)
        self.number = version.version or LATEST
        self.version_key: VersionKey = (*self.key, self.number)
        self.log = log
        # On demand. Of the busy ones some may be provisioned: `provisioned` counts those apart.
        self.idle: list[Sandbox] = []
        self.busy = 0
        self.starting = 0
        self.provisioned = Provision()
        self.provisioned_key = provisioned_key_of(*self.version_key)
        # Starts in a row that the machine refused, and when the next is tried.
        self.start_failures = 0
        self.start_retry: asyncio.TimerHandle | None = None
        # Whether it lately wanted to start more sandboxes in a short time than a function may.
        self.is_paced = False
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
        # Nothing begins any more; what is busy ends after its run.
        self.is_deleted = False
        self.code_key = b""
        self.take(function, version)

    def take(self, function: resources_pb2.Function, version: resources_pb2.FunctionVersion) -> bool:
        """Use this configuration from now on; returns whether sandboxes of the old one are stale."""
        self.function = function
        self.version = version
        self.is_deleted = False
        is_reserved = function.HasField("reserved_concurrency")
        self.is_reserved = is_reserved
        self.is_closed = is_reserved and function.reserved_concurrency == 0
        self.limit_key = limit_key_of(*self.key, is_reserved)
        code_key = version.SerializeToString(deterministic=True)
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

    def arn(self, fleet: resources_pb2.Fleet | None) -> str:
        """Its ARN with the version."""
        of_fleet = (fleet.account_id if fleet is not None else "") or "0" * 12
        tenant_id, function_name, *_ = self.key
        return function_arn(region_of(fleet), account_of(tenant_id, of_fleet), function_name, self.number)


def region_of(fleet: resources_pb2.Fleet | None) -> str:
    """The region that handlers see."""
    return (fleet.region if fleet is not None else "") or "us-east-1"
