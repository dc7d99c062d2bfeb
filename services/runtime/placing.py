"""What waits is placed: on a sandbox that is idle, on a new one, or in line for a share or for room."""

import asyncio
from itertools import islice
from typing import cast

from services.runtime import pool
from services.runtime.admission import Shares
from services.runtime.functions import HostedFunction
from services.runtime.room import Room
from services.runtime.sandbox_runs import SandboxRuns
from services.runtime.settings import RuntimeSettings
from services.runtime.waiting import WaitingRuns
from services.shared.clock import Clock

EXPIRY_SCAN_MS = 20.0


class Placing:
    """Decides who is next; two lines, in order of arrival: who waits for a start, and who waits for a share."""

    def __init__(
        self,
        settings: RuntimeSettings,
        shares: Shares,
        waiting: WaitingRuns,
        sandbox_runs: SandboxRuns,
        room: Room,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._shares = shares
        self._waiting = waiting
        self._runs = sandbox_runs
        self._room = room
        self._clock = clock
        self._rules = pool.ScaleRules(settings.scale_after_ms, settings.scale_backlog_ms)
        self._hungry: dict[HostedFunction, None] = {}
        # By limit.
        self._share_queues: dict[str, dict[HostedFunction, None]] = {}

    def is_crowded(self, limit_key: str) -> bool:
        """Whether somebody waits for a start, or for a share of this limit."""
        return bool(self._hungry or self._share_queues.get(limit_key))

    def gives_way(self, function: HostedFunction) -> bool:
        """Whether a sandbox that came free is to be ended: one with nothing at all waits for room.

        A function with nothing comes before a further run of one that has something.
        """
        if not self._hungry or not self._room.is_full:
            return False
        if not any(one is not function and not one.sandboxes for one in self._hungry):
            return False
        self._hungry.pop(function, None)
        return True

    def pump(self, function: HostedFunction) -> None:
        """Run what can run, start what should start, come back when time may change that."""
        while function.waiting and function.idle and self._shares.take(function.limit_key):
            self._runs.begin(function, function.idle.pop(), self._waiting.next(function))
        if not function.waiting:
            return
        if function.timer is not None and not function.waiting_sync and function.busy:
            # From a queue, and something runs: only time can change what is wanted, and the timer comes.
            return
        now_ms = self._clock.monotonic_ms()
        if now_ms >= function.next_expiry_ms:
            self._waiting.expire(function, now_ms)
            if not function.waiting:
                return
        if self._shares.free(function.limit_key) <= function.starting:
            self._share_queues.setdefault(function.limit_key, {})[function] = None
        elif not self._start_wanted(function, now_ms):
            self._hungry[function] = None
        if function.timer is None and function.waiting:
            delay_ms = max(1.0, min(self._settings.scale_after_ms or EXPIRY_SCAN_MS, EXPIRY_SCAN_MS))
            function.timer = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._timer, function)

    def after(self, function: HostedFunction, *, made_room: bool = False) -> None:
        """A sandbox of the function came free, began its life or ended it."""
        self._rotate(function.limit_key, function)
        # A sandbox that came free is its own function's first; room that was made is for who waited for it.
        if not made_room:
            self.pump(function)
        if self._hungry:
            self._feed()
        if made_room:
            self.pump(function)

    def shares_changed(self) -> None:
        """A target rose or fell."""
        for queue in list(self._share_queues.values()):
            for function in list(queue):
                queue.pop(function, None)
                self.pump(function)

    def limit_changed(self, function: HostedFunction, old_key: str) -> None:
        """The function counts against another limit, or its configuration changed."""
        self._share_queues.get(old_key, {}).pop(function, None)
        self.pump(function)

    def _timer(self, function: HostedFunction) -> None:
        function.timer = None
        self.pump(function)
        function.quiet_mark_ms = function.last_end_ms

    def _start_wanted(self, function: HostedFunction, now_ms: float) -> bool:
        """Begin the cold starts that are wanted and possible; False: one more was wanted than was possible."""
        oldest = function.waiting[0].waiting_since_ms
        demand = pool.Demand(
            idle=len(function.idle),
            busy=function.busy,
            starting=function.starting,
            waiting_sync=function.waiting_sync,
            waiting_async=len(function.waiting) - function.waiting_sync,
            oldest_wait_ms=now_ms - oldest,
            quiet_ms=now_ms - function.last_end_ms if function.quiet_mark_ms == function.last_end_ms else 0.0,
            service_ms=function.service_ms,
        )
        wanted = pool.starts_wanted(demand, self._rules)
        possible = self._shares.free(function.limit_key) - function.starting
        for _ in range(min(wanted, possible)):
            if not self._room.start(function, len(self._hungry)):
                return False
        return wanted <= possible or possible <= 0

    def _feed(self) -> None:
        """Something ended: those who waited for room have another look, in order."""
        for function in list(self._hungry):
            del self._hungry[function]
            self.pump(function)

    def _rotate(self, limit_key: str, own: HostedFunction) -> None:
        """A share came free: one of the functions that wait for it is next."""
        queue = self._share_queues.get(limit_key)
        # Some were served or gave up meanwhile.
        while queue and not next(iter(queue)).waiting:
            del queue[next(iter(queue))]
        if not queue:
            return
        function = next(iter(queue))
        if len(queue) > 1:
            line = [_in_line(f) for f in islice(queue, pool.MAX_IN_LINE) if f.waiting]
            present = self._waiting.count + self._runs.busy
            chosen = pool.next_in_line(line, present, self._clock.monotonic_ms())
            function = cast(HostedFunction, chosen.owner)
        del queue[function]
        if function is not own:
            self.pump(function)


def _in_line(function: HostedFunction) -> pool.InLine:
    oldest_ms = function.waiting[0].waiting_since_ms
    present = len(function.waiting) + function.busy
    return pool.InLine(function, present, oldest_ms, max(oldest_ms, function.last_begun_ms))
