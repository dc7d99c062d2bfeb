"""Room for sandboxes: memory and places, who rests idle, who is ended so that another can start."""

from collections import OrderedDict
from collections.abc import Sequence

from services.runtime import pool, refusals
from services.runtime.admission import Shares
from services.runtime.functions import HostedFunction
from services.runtime.nursery import Nursery
from services.runtime.pool import Idle, Need
from services.runtime.sandboxes import Sandbox
from services.runtime.settings import RuntimeSettings
from services.shared.clock import Clock
from services.shared.errors import EvenflowError


class Room:
    """Bounds the sandboxes of the host: their number, and the sum of their memory sizes by `budget_mb`.

    Room is free when a sandbox is gone, not when it is told to end. `nursery` is set before anything starts.
    """

    nursery: Nursery

    def __init__(self, settings: RuntimeSettings, shares: Shares, clock: Clock, budget_mb: int) -> None:
        self.budget_mb = budget_mb
        self._settings = settings
        self._shares = shares
        self._clock = clock
        # Idle on demand, least recently used first: an eviction looks at as many as it ends, whatever there is beside.
        self._resting: OrderedDict[int, Sandbox] = OrderedDict()

    @property
    def memory_mb(self) -> dict[str, int]:
        """The budget, and what is taken of it."""
        nursery = getattr(self, "nursery", None)
        return {
            "budget": self.budget_mb,
            "used": nursery.census.memory_mb if nursery is not None else 0,
            "provisioned": nursery.census.provisioned_mb if nursery is not None else 0,
        }

    # --- what fits

    def is_prepared(self, function: HostedFunction) -> bool:
        """Whether it can be started at all now; if not, on_prepared follows."""
        return self.nursery.is_prepared(function, self.budget_mb - self.nursery.census.provisioned_mb)

    def too_large(self, function: HostedFunction) -> EvenflowError | None:
        """Why no further sandbox of the function fits whatever is ended for it; None: one does."""
        census = self.nursery.census
        kept_mb = census.provisioned_mb
        has_memory = function.version.memory_mb <= self.budget_mb - kept_mb
        if has_memory and census.provisioned < self._settings.max_sandboxes:
            return None
        return refusals.too_large(function, self.budget_mb, kept_mb)

    def eviction_cause(self, functions: Sequence[HostedFunction]) -> str:
        """Why one more is to be ended, beside those that end already, so that each of these can have one more.

        Empty: there is room, or it is on its way.
        """
        need, census = self._need(functions), self.nursery.census
        if need.memory_mb > census.ending_mb:
            return "memory"
        return "evicted" if need.sandboxes > census.ending else ""

    def _need(self, functions: Sequence[HostedFunction]) -> Need:
        census = self.nursery.census
        memory_mb = sum(function.version.memory_mb for function in functions) + census.memory_mb - self.budget_mb
        return Need(memory_mb, census.count + len(functions) - self._settings.max_sandboxes)

    def start(self, function: HostedFunction, *, is_provisioned: bool = False) -> bool:
        """Begin a cold start; False: there is no room now.

        EvenflowError: the machine cannot, or the configuration does not allow it; see Nursery.begin.
        """
        if self.nursery.census.starting >= self._settings.max_parallel_starts or not self._need([function]).is_met:
            return False
        return self.nursery.begin(function, is_provisioned=is_provisioned)

    def make_for(self, functions: Sequence[HostedFunction]) -> None:
        """End idle sandboxes of others so that each of these can have one more; beside those that end already.

        For several at once: a sandbox takes its time to end, and each of them would wait for that in turn.
        """
        cause = self.eviction_cause(functions)
        if not cause:
            return
        need, census = self._need(functions), self.nursery.census
        lacking = Need(need.memory_mb - census.ending_mb, need.sandboxes - census.ending)
        if lacking.memory_mb > 0:
            # Templates that nothing runs on go first: their functions lose time only. Not those of who waits, unless
            # template and sandbox cannot be there together.
            room_mb = self.budget_mb - census.provisioned_mb
            kept = [one for one in functions if 2 * one.version.memory_mb <= room_mb]
            freed_mb = self.nursery.snapshots.end_idle(lacking.memory_mb, kept)
            lacking = Need(lacking.memory_mb - freed_mb, lacking.sandboxes)
        idle = (Idle(n, s.function, s.idle_since_ms, s.memory_mb) for n, s in self._resting.items())
        for number in pool.victims(idle, functions, lacking):
            self.retire(self._resting[number], cause)

    # --- who rests

    def rest(self, sandbox: Sandbox) -> None:
        """It has nothing to do now."""
        sandbox.state = "idle"
        if sandbox.is_provisioned:
            sandbox.is_cold = False
            sandbox.function.provisioned.idle.append(sandbox)
            sandbox.limit_key = sandbox.function.limit_key
            self._shares.keep(sandbox.limit_key, 1)
            return
        sandbox.idle_since_ms = self._clock.monotonic_ms()
        sandbox.function.idle.append(sandbox)
        self._resting[sandbox.number] = sandbox

    def wake(self, function: HostedFunction) -> Sandbox:
        """The one of the function that came to rest last; there is one."""
        sandbox = function.idle.pop()
        del self._resting[sandbox.number]
        return sandbox

    def remove(self, sandbox: Sandbox) -> None:
        """It is given no run any more."""
        function: HostedFunction = sandbox.function
        if self._resting.pop(sandbox.number, None) is not None:
            function.idle.remove(sandbox)
        elif sandbox.is_provisioned and sandbox in function.provisioned.idle:
            function.provisioned.idle.remove(sandbox)
            self._shares.keep(sandbox.limit_key, -1)

    def retire(self, sandbox: Sandbox, cause: str) -> None:
        """End it."""
        self.remove(sandbox)
        sandbox.end(cause)

    def retire_idle(self, function: HostedFunction, cause: str) -> None:
        """End what is idle of a function, and forget the /tmp folders kept for it."""
        for sandbox in [*function.idle, *function.provisioned.idle]:
            self.retire(sandbox, cause)
        self.nursery.drop_seats(function)

    def retire_expired(self, now_ms: float) -> None:
        """End what was idle for too long."""
        idle = (Idle(n, s.function, s.idle_since_ms) for n, s in self._resting.items())
        for number in pool.expired(idle, now_ms, self._settings.idle_seconds * 1_000):
            self.retire(self._resting[number], "idle")
