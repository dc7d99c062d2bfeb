"""Room for sandboxes: how many may exist, who rests idle, who is ended so that another can start."""

from collections.abc import Callable, Iterable

from services.runtime import pool
from services.runtime.functions import HostedFunction
from services.runtime.nursery import Nursery
from services.runtime.sandboxes import Sandbox
from services.runtime.settings import RuntimeSettings
from services.shared.clock import Clock


class Room:
    """Bounds the sandboxes of the host. `nursery` is set before anything starts."""

    nursery: Nursery

    def __init__(
        self, settings: RuntimeSettings, clock: Clock, functions: Callable[[], Iterable[HostedFunction]]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._functions = functions

    @property
    def is_full(self) -> bool:
        """Whether no further sandbox may exist now."""
        return self.nursery.count >= self._settings.max_sandboxes

    def start(self, function: HostedFunction, hungry: int) -> bool:
        """Begin a cold start; False: not now. An idle sandbox of another function is ended if that makes room."""
        nursery = self.nursery
        if nursery.starting >= self._settings.max_parallel_starts:
            return False
        if not self.is_full:
            return nursery.begin(function)
        if nursery.ending >= max(1, hungry):
            # Room is on its way: do not end a second one for the same need.
            return False
        idle = (pool.Idle(s.number, f, s.idle_since_ms) for f in self._functions() for s in f.idle)
        number = pool.victim(idle, function)
        if number is not None:
            self.retire(nursery.sandboxes[number], "evicted")
        # The room is there when it is gone: the hungry are fed then.
        return False

    def rest(self, sandbox: Sandbox) -> None:
        """It has nothing to do now."""
        sandbox.state = "idle"
        sandbox.idle_since_ms = self._clock.monotonic_ms()
        sandbox.function.idle.append(sandbox)

    def retire(self, sandbox: Sandbox, cause: str) -> None:
        """End it; it is given no run any more."""
        idle = sandbox.function.idle
        if sandbox in idle:
            idle.remove(sandbox)
        sandbox.end(cause)

    def retire_idle(self, function: HostedFunction, cause: str) -> None:
        """End what is idle of a function, and forget the /tmp folders kept for it."""
        for sandbox in list(function.idle):
            self.retire(sandbox, cause)
        self.nursery.drop_seats(function)

    def retire_expired(self, function: HostedFunction, now_ms: float) -> None:
        """End what was idle for too long."""
        idle = [pool.Idle(s.number, function, s.idle_since_ms) for s in function.idle]
        for number in pool.expired(idle, now_ms, self._settings.idle_seconds * 1_000):
            self.retire(self.nursery.sandboxes[number], "idle")
