"""What the poller knows of each function, worked out once per change and not once per event."""

from collections.abc import Callable, Container, Sequence

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST, function_arn
from services.policy.destinations import names_function
from services.policy.placement import rank_hosts
from services.policy.retry import DEFAULT_MAX_AGE_MS, DEFAULT_RETRY_ATTEMPTS, Rules
from services.poller.settings import PollerSettings
from services.shared.config_view import ConfigView
from services.shared.function_view import FunctionView

FunctionKey = tuple[str, str]
DEFAULT_REGION = "us-east-1"
# Functions that are gone leave their plans behind; beyond this many the book starts anew.
MAX_FUNCTIONS = 50_000
# A function has fewer versions and aliases; events may name what is no longer there.
MAX_QUALIFIERS = 512
# A host that refused a function for its reserved concurrency is not tried for so long, and longer with every time, as
# long as others have a part: what is tried there in vain, or stays there when it freezes, is missing elsewhere.
NO_SHARE_MS = 500.0
MAX_NO_SHARE_MS = 16_000.0


class InFlight:
    """How many invocations of a function are at hosts now; the same object over changes of its configuration.

    by_host: at each. full_at_ms: wall time at which its reservation was last in use, as far as this poller can tell; 0:
    never.
    """

    __slots__ = ("_refusals", "by_host", "count", "full_at_ms")

    def __init__(self) -> None:
        self.count = 0
        self.full_at_ms = 0
        self.by_host: dict[str, int] = {}
        # Hosts that had no part of its reservation: until when they are not tried, monotonic, and for how long in all.
        self._refusals: dict[str, tuple[float, float]] = {}

    def began(self, host_id: str) -> None:
        """One more was sent there."""
        self.count += 1
        self.by_host[host_id] = self.by_host.get(host_id, 0) + 1

    def ended(self, host_id: str) -> None:
        """One less is there."""
        self.count -= 1
        left = self.by_host.get(host_id, 0) - 1
        if left > 0:
            self.by_host[host_id] = left
        else:
            self.by_host.pop(host_id, None)

    def refused(self, host_id: str, now_ms: float) -> None:
        """The host had no part of its concurrency for it: the next try is later each time."""
        until_ms, wait_ms = self._refusals.get(host_id, (0.0, NO_SHARE_MS / 2))
        # Several that were under way at once are one try.
        if now_ms >= until_ms:
            wait_ms = min(2 * wait_ms, MAX_NO_SHARE_MS)
            self._refusals[host_id] = now_ms + wait_ms, wait_ms

    def ran(self, host_id: str) -> None:
        """The host has a part."""
        if self._refusals:
            self._refusals.pop(host_id, None)

    def hosts_without_share(self, now_ms: float) -> Container[str]:
        """Where nothing of it need be tried now."""
        if not self._refusals:
            return ()
        return {host_id for host_id, (until_ms, _) in self._refusals.items() if until_ms > now_ms}


class Version:
    """One version, as far as its runs concern a poller. `number`: "$LATEST" or digits."""

    __slots__ = ("dead_letter_arn", "number", "timeout_ms")

    def __init__(self, version: resources_pb2.FunctionVersion) -> None:
        self.number = version.version or LATEST
        self.timeout_ms = version.timeout_ms
        self.dead_letter_arn = version.dead_letter_arn


class Plan:
    """One function by one qualifier, as its events are treated now."""

    __slots__ = (
        "_known",
        "allows_recursion",
        "arn",
        "function",
        "is_closed",
        "is_reserved",
        "key",
        "on_failure",
        "on_success",
        "qualifier",
        "ranked",
        "reserved",
        "rules",
        "running",
        "version",
    )

    def __init__(self, known: "KnownFunction", qualifier: str, arn: str, rules: Rules) -> None:
        function = known.function
        self.function = function
        self.key: FunctionKey = (function.tenant_id, function.function_name)
        self.qualifier = qualifier
        self.rules = rules
        self.arn = arn
        # The reservation, and what runs of it, is one for all versions.
        self.is_reserved = function.HasField("reserved_concurrency")
        self.is_closed = self.is_reserved and function.reserved_concurrency == 0
        self.reserved = function.reserved_concurrency
        self.running = known.running
        self.ranked = known.ranked
        config = known.view.async_config(qualifier)
        self.on_success = config.on_success_arn
        self.on_failure = config.on_failure_arn
        self.allows_recursion = function.allows_recursion
        self._known = known
        # Unless traffic is split, every run is of the same version; None: it is, or there is none.
        pointer = known.view.aliases.get(qualifier)
        is_split = pointer is not None and bool(pointer.weights)
        self.version = None if is_split else known.choose(qualifier, 0.0)

    @property
    def exists(self) -> bool:
        """Whether there is such a version or alias now."""
        return self.version is not None or self._known.view.knows(self.qualifier)

    @property
    def on_stop(self) -> str:
        """Where the record of an event goes whose chain was stopped: not to a function, which would go on with it."""
        return "" if names_function(self.on_failure) else self.on_failure

    def choose(self, draw: Callable[[], float]) -> Version | None:
        """What one run is of; None: there is no such version or alias (any more)."""
        return self.version or self._known.choose(self.qualifier, draw())


class KnownFunction:
    """One function as control last told it, and what was worked out of it."""

    __slots__ = ("_versions", "function", "plans", "ranked", "running", "view")

    def __init__(self, function: resources_pb2.Function, ranked: tuple[str, ...], running: InFlight) -> None:
        self.function = function
        self.view = FunctionView(function)
        self.ranked = ranked
        self.running = running
        self.plans: dict[str, Plan] = {}
        self._versions: dict[str, Version] = {}

    def choose(self, qualifier: str, draw: float) -> Version | None:
        """The version that one invocation by this qualifier runs. `draw`: 0.0 to below 1.0."""
        found = self.view.choose(qualifier, draw)
        if found is None:
            return None
        version = self._versions.get(found.version)
        if version is None:
            version = self._versions[found.version] = Version(found)
        return version

    def rank(self, ranked: tuple[str, ...]) -> None:
        """The hosts are others now."""
        self.ranked = ranked
        for plan in self.plans.values():
            plan.ranked = ranked


def rules_of(config: resources_pb2.AsyncConfig, settings: PollerSettings) -> Rules:
    """An async configuration with AWS's defaults, and the fleet's retry times."""
    is_aged = config.HasField("maximum_event_age_seconds")
    age_ms = config.maximum_event_age_seconds * 1_000 if is_aged else DEFAULT_MAX_AGE_MS
    return Rules(
        max_retries=config.maximum_retry_attempts
        if config.HasField("maximum_retry_attempts")
        else DEFAULT_RETRY_ATTEMPTS,
        max_age_ms=max(1, int(age_ms * settings.retry_age_scale)),
        base_ms=settings.retry_base_seconds * 1_000,
        throttle_base_ms=settings.retry_throttle_base_seconds * 1_000,
        throttle_cap_ms=settings.retry_throttle_cap_seconds * 1_000,
    )


def arn_of(view: ConfigView, tenant_id: str, function_name: str, qualifier: str = LATEST) -> str:
    """The qualified ARN of a function of this fleet, in its tenant's account."""
    fleet = view.fleet
    region = (fleet.region if fleet is not None else "") or DEFAULT_REGION
    return function_arn(region, view.account_of(tenant_id), function_name, qualifier or LATEST)


class FunctionBook:
    """Plans by function and qualifier, made when first needed and again when the configuration or the hosts change."""

    def __init__(self, settings: PollerSettings, view: Callable[[], ConfigView]) -> None:
        self._settings = settings
        self._view = view
        self._known: dict[FunctionKey, KnownFunction] = {}
        self._host_ids: Sequence[str] = ()
        # Of the fleet: each has its part of a function's runs.
        self.pollers = 1

    def find(self, key: FunctionKey, qualifier: str) -> Plan | None:
        """The plan for events of this qualifier, which may be gone; None when the view does not know the function."""
        function = self._view().functions.get(key)
        if function is None:
            return None
        known = self._known.get(key)
        if known is None or known.function is not function:
            known = self._learn(function, known)
        return known.plans.get(qualifier) or self._plan(known, qualifier)

    def note_full(self, plan: Plan, wall_ms: int) -> None:
        """Remember when the reservation of a function that has one is in use, as this poller's part of it tells."""
        if plan.running.count * self.pollers >= plan.reserved:
            plan.running.full_at_ms = wall_ms

    def peek(self, key: FunctionKey, qualifier: str) -> Plan | None:
        """The plan as it was last used, also of a function that is gone."""
        known = self._known.get(key)
        return None if known is None else known.plans.get(qualifier)

    def hosts_changed(self, host_ids: Sequence[str]) -> None:
        """Rank the hosts anew for every function."""
        self._host_ids = tuple(host_ids)
        for key, known in self._known.items():
            known.rank(rank_hosts(*key, self._host_ids))

    def _learn(self, function: resources_pb2.Function, before: KnownFunction | None) -> KnownFunction:
        if len(self._known) >= MAX_FUNCTIONS:
            self._known = {key: known for key, known in self._known.items() if known.running.count}
        key = (function.tenant_id, function.function_name)
        ranked = before.ranked if before is not None else rank_hosts(*key, self._host_ids)
        running = before.running if before is not None else InFlight()
        known = self._known[key] = KnownFunction(function, ranked, running)
        return known

    def _plan(self, known: KnownFunction, qualifier: str) -> Plan:
        if len(known.plans) >= MAX_QUALIFIERS:
            known.plans.clear()
        arn = arn_of(self._view(), known.function.tenant_id, known.function.function_name, qualifier)
        rules = rules_of(known.view.async_config(qualifier), self._settings)
        plan = known.plans[qualifier] = Plan(known, qualifier, arn, rules)
        return plan
