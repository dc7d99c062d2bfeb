"""Invocations that wait for a sandbox: in order, for a bounded time, and what they are told when it is over."""

from collections import deque
from collections.abc import Iterable, Set

from services.runtime import refusals, runs
from services.runtime.admission import Shares
from services.runtime.functions import HostedFunction
from services.runtime.runs import Run
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError

# How long a run waits on a host that was given no share of its function's limit.
SHARE_WAIT_MS = 250


class WaitingRuns:
    """Owns every function's queue. `count`: all that wait, for a sandbox or for what control says of a function."""

    def __init__(self, settings: RuntimeSettings, shares: Shares, telemetry: Telemetry, clock: Clock) -> None:
        self.count = 0
        self.is_draining = False
        self._settings = settings
        self._shares = shares
        self._telemetry = telemetry
        self._clock = clock

    @property
    def is_full(self) -> bool:
        """Whether no further one may wait."""
        return self.count >= self._settings.max_waiting

    def add(self, function: HostedFunction, run: Run) -> None:
        """Let it wait for as long as its caller or the setting says."""
        now_ms = self._clock.monotonic_ms()
        run.waiting_since_ms = now_ms
        wait_ms = run.invocation.max_wait_ms or self._settings.max_wait_ms
        if function.is_reserved and not self._shares.is_known(function.limit_key):
            # Its share comes in a moment, or another host has all of it.
            wait_ms = min(wait_ms, SHARE_WAIT_MS)
        run.expires_ms = now_ms + wait_ms
        if not function.waiting or run.expires_ms < function.next_expiry_ms:
            function.next_expiry_ms = run.expires_ms
        function.waiting.append(run)
        function.waiting_sync += run.is_sync
        self.count += 1

    def next(self, function: HostedFunction) -> Run:
        """The one that waited longest; there is one."""
        run = function.waiting.popleft()
        function.waiting_sync -= run.is_sync
        self.count -= 1
        return run

    def put_back(self, function: HostedFunction, ahead: deque[Run]) -> None:
        """What had been sent ahead to a sandbox that died never began: it waits in front."""
        if not ahead:
            return
        if self.is_draining:
            while ahead:
                self.refuse(ahead.popleft(), refusals.draining())
            return
        # Its time to wait goes on from where it was.
        function.next_expiry_ms = min(run.expires_ms for run in (*ahead, *function.waiting))
        self.count += len(ahead)
        function.waiting.extendleft(reversed(ahead))
        ahead.clear()

    def expire(self, function: HostedFunction, now_ms: float) -> None:
        """Refuse those that waited long enough."""
        late = [run for run in function.waiting if run.expires_ms <= now_ms]
        self._keep(function, [run for run in function.waiting if run.expires_ms > now_ms])
        has_share = self._shares.free(function.limit_key) > 0 or not self._shares.is_known(function.limit_key)
        for run in late:
            if has_share and function.is_paced:
                self.refuse(run, refusals.scaled_too_fast(function, self._settings.starts_per_10_seconds))
            else:
                self.refuse(run, refusals.no_room() if has_share else refusals.throttled(function))

    def withdraw(self, functions: Iterable[HostedFunction], unwanted: Set[Run]) -> None:
        """Whoever wanted these is gone: what has not begun does not begin; its lease is another's."""
        for function in functions:
            if any(run in unwanted for run in function.waiting):
                self._keep(function, [run for run in function.waiting if run not in unwanted])

    def refuse(self, run: Run, error: EvenflowError) -> None:
        """Nothing of it ran."""
        outcome = runs.refused(error)
        self._telemetry.settled(run, outcome, None)
        run.deliver(run, outcome)

    def refuse_all(self, function: HostedFunction, error: EvenflowError) -> None:
        """Nothing of the function can be started: all who wait are told."""
        while function.waiting:
            self.refuse(self.next(function), error)

    def _keep(self, function: HostedFunction, left: list[Run]) -> None:
        self.count -= len(function.waiting) - len(left)
        function.waiting.clear()
        function.waiting.extend(left)
        function.waiting_sync = sum(run.is_sync for run in left)
        function.next_expiry_ms = min((run.expires_ms for run in left), default=0.0)
