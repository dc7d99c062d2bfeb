"""What the poller knows of each function, worked out once per change and not once per event."""

from collections.abc import Callable, Sequence

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST, function_arn
from services.policy.placement import rank_hosts
from services.policy.retry import DEFAULT_MAX_AGE_MS, DEFAULT_RETRY_ATTEMPTS, Rules
from services.poller.settings import PollerSettings
from services.shared.follower import ConfigView

FunctionKey = tuple[str, str]
DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"
# Functions that are gone leave their plan behind; beyond this many the book starts anew.
MAX_PLANS = 50_000


class InFlight:
    """How many invocations of a function are at hosts now; the same object over changes of its configuration."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Plan:
    """One function as its events are treated now."""

    __slots__ = ("arn", "function", "is_closed", "key", "on_failure", "on_success", "ranked", "rules", "running")

    def __init__(
        self, function: resources_pb2.Function, rules: Rules, arn: str, ranked: tuple[str, ...], running: InFlight
    ) -> None:
        self.function = function
        self.key: FunctionKey = (function.tenant_id, function.function_name)
        self.rules = rules
        self.arn = arn
        self.is_closed = function.HasField("reserved_concurrency") and function.reserved_concurrency == 0
        self.on_success = function.async_config.on_success_arn
        self.on_failure = function.async_config.on_failure_arn
        self.ranked = ranked
        self.running = running


def rules_of(function: resources_pb2.Function, settings: PollerSettings) -> Rules:
    """The function's async configuration with AWS's defaults, and the fleet's retry times."""
    config = function.async_config
    return Rules(
        max_retries=config.maximum_retry_attempts
        if config.HasField("maximum_retry_attempts")
        else DEFAULT_RETRY_ATTEMPTS,
        max_age_ms=config.maximum_event_age_seconds * 1_000
        if config.HasField("maximum_event_age_seconds")
        else DEFAULT_MAX_AGE_MS,
        base_ms=settings.retry_base_seconds * 1_000,
        throttle_base_ms=settings.retry_throttle_base_seconds * 1_000,
        throttle_cap_ms=settings.retry_throttle_cap_seconds * 1_000,
    )


def arn_of(view: ConfigView, function_name: str, qualifier: str = LATEST) -> str:
    """The qualified ARN of a function of this fleet."""
    fleet = view.fleet
    account = (fleet.account_id if fleet is not None else "") or DEFAULT_ACCOUNT
    region = (fleet.region if fleet is not None else "") or DEFAULT_REGION
    return function_arn(region, account, function_name, qualifier)


class FunctionBook:
    """Plans by function, made when they are first needed and again when the configuration or the hosts change."""

    def __init__(self, settings: PollerSettings, view: Callable[[], ConfigView]) -> None:
        self._settings = settings
        self._view = view
        self._plans: dict[FunctionKey, Plan] = {}
        self._host_ids: Sequence[str] = ()

    def find(self, key: FunctionKey) -> Plan | None:
        """The function's plan; None when the view does not know the function."""
        function = self._view().functions.get(key)
        plan = self._plans.get(key)
        if function is None:
            return None
        if plan is None or plan.function is not function:
            plan = self._plan(function, plan)
        return plan

    def peek(self, key: FunctionKey) -> Plan | None:
        """The plan as it was last used, also of a function that is gone."""
        return self._plans.get(key)

    def hosts_changed(self, host_ids: Sequence[str]) -> None:
        """Rank the hosts anew for every function."""
        self._host_ids = tuple(host_ids)
        for plan in self._plans.values():
            plan.ranked = rank_hosts(*plan.key, self._host_ids)

    def _plan(self, function: resources_pb2.Function, before: Plan | None) -> Plan:
        if len(self._plans) >= MAX_PLANS:
            self._plans = {key: plan for key, plan in self._plans.items() if plan.running.count}
        key = (function.tenant_id, function.function_name)
        ranked = before.ranked if before is not None else rank_hosts(*key, self._host_ids)
        arn = arn_of(self._view(), function.function_name)
        running = before.running if before is not None else InFlight()
        plan = self._plans[key] = Plan(function, rules_of(function, self._settings), arn, ranked, running)
        return plan
