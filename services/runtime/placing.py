"""What waits is placed: on a sandbox that is idle, on a new one, or in line for a share or for a start."""

import asyncio
from itertools import islice
from typing import cast

from services.policy.backoff import exponential_ms
from services.runtime import pool
from services.runtime.admission import Shares
from services.runtime.functions import HostedFunction
from services.runtime.room import Room
from services.runtime.sandbox_runs import SandboxRuns
from services.runtime.sandboxes import Sandbox
from services.runtime.scaling import ScalingRate
from services.runtime.settings import RuntimeSettings
from services.runtime.start_line import StartLine
from services.runtime.waiting import WaitingRuns
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

EXPIRY_SCAN_MS = 20.0
# A start that the machine refuses (no fork, no parent) is tried again so often while somebody waits: 1.3 s in all.
MAX_START_RETRIES = 6
START_RETRY_MS = 20.0
MAX_START_RETRY_MS = 1_000.0
# Room is kept for a function that nobody waits for, only to have more of it ready, no longer than this.
KEEP_ROOM_MS = 2_000.0


class Placing:
    """Decides who is next. Two lines, in order of arrival: for a start, and by limit for a share."""

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
        self._scaling = ScalingRate(settings.starts_per_10_seconds)
        self._rules = pool.ScaleRules(settings.scale_after_ms, settings.scale_backlog_ms)
        self._line = StartLine()
        self._share_queues: dict[str, dict[HostedFunction, None]] = {}
        self._seen_first: tuple[HostedFunction | None, float] = None, 0.0

    def is_crowded(self, limit_key: str) -> bool:
        """Whether somebody waits for a start, or for a share of this limit."""
        return bool(self._line or self._share_queues.get(limit_key))

    def take_idle(self, function: HostedFunction) -> Sandbox | None:
        """An idle sandbox that may run now, its share taken: one that is kept ready comes first."""
        provisioned = function.provisioned
        if provisioned.idle and self._shares.take_kept(function.limit_key, provisioned.idle[-1].limit_key):
            return provisioned.idle.pop()
        if function.idle and self._shares.take(function.limit_key):
            return self._room.wake(function)
        return None

    def gives_way(self, function: HostedFunction) -> str:
        """The cause for which a sandbox of it that came free is to be ended; empty: it stays.

        A function with nothing at all waits for room, and comes before a further run of one that has something.
        """
        line = self._line
        if not line or not line.has_bare:
            return ""
        if line.first is function:
            line.to_the_end(function)
        first = line.first
        # For the first only: what the others need may come free without ending anything.
        return "" if first is None or first is function else self._room.eviction_cause([first])

    def pump(self, function: HostedFunction) -> None:
        """Run what can run, start what should start, come back when time may change that."""
        while function.waiting:
            sandbox = self.take_idle(function)
            if sandbox is None:
                break
            self._runs.begin(function, sandbox, self._waiting.next(function))
        if not function.waiting and not function.provisioned.missing:
            if self._line:
                self._line.leave(function)
            return
        if function.timer is not None and not function.waiting_sync and function.busy and function not in self._line:
            # From a queue, and something runs: only time can change what is wanted, and the timer comes.
            return
        now_ms = self._clock.monotonic_ms()
        if function.waiting and now_ms >= function.next_expiry_ms:
            self._waiting.expire(function, now_ms)
        self._start_what_is_wanted(function, now_ms)
        if function.timer is None and function.waiting:
            delay_ms = max(1.0, min(self._settings.scale_after_ms or EXPIRY_SCAN_MS, EXPIRY_SCAN_MS))
            function.timer = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._timer, function)

    def after(self, function: HostedFunction, *, made_room: bool = False) -> None:
        """A sandbox of the function came free, began its life or ended it."""
        self._rotate(function.limit_key, function)
        # A sandbox that came free is its own function's first; room that was made is for who waited for it.
        if not made_room:
            self.pump(function)
        if self._line:
            self._feed()
        if made_room:
            self.pump(function)

    def set_hosts(self, hosts: int) -> None:
        """So many hosts of the fleet share what is bounded for a function as a whole: its scaling rate."""
        self._scaling.set_hosts(hosts)

    def shares_changed(self) -> None:
        """A target rose or fell."""
        for queue in list(self._share_queues.values()):
            for function in list(queue):
                queue.pop(function, None)
                self.pump(function)

    def limit_changed(self, function: HostedFunction, old_key: str) -> None:
        """The function counts against another limit, or its configuration changed."""
        self._share_queues.get(old_key, {}).pop(function, None)
        for sandbox in function.provisioned.idle:
            self._shares.keep(sandbox.limit_key, -1)
            self._shares.keep(function.limit_key, 1)
            sandbox.limit_key = function.limit_key
        self.pump(function)

    def start_unavailable(self, function: HostedFunction, error: EvenflowError) -> None:
        """The machine refused a start: it is tried again, a few times, while somebody waits."""
        if function.start_retry is not None:
            return
        if function.start_failures >= MAX_START_RETRIES or self._waiting.is_draining:
            function.start_failures = 0
            self._waiting.refuse_all(function, error)
            return
        function.start_failures += 1
        delay_ms = exponential_ms(function.start_failures, START_RETRY_MS, MAX_START_RETRY_MS)
        function.start_retry = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._retry, function)

    def tick(self, now_ms: float) -> None:
        """Let nobody stand before the others for whom nobody waits."""
        first, since_ms = self._seen_first
        now_first = self._line.first
        if now_first is not first:
            self._seen_first = now_first, now_ms
        elif first is not None and not first.waiting and now_ms - since_ms >= KEEP_ROOM_MS:
            self._line.to_the_end(first)
            self._feed()

    def _retry(self, function: HostedFunction) -> None:
        function.start_retry = None
        self.pump(function)
        if self._line:
            self._feed()

    def _timer(self, function: HostedFunction) -> None:
        function.timer = None
        self.pump(function)
        function.quiet_mark_ms = function.last_end_ms

    def _start_what_is_wanted(self, function: HostedFunction, now_ms: float) -> None:
        """Begin the starts that are wanted and possible, or stand in line for them."""
        line, provisioned = self._line, function.provisioned
        wanted = 0
        if function.waiting:
            if self._shares.free(function.limit_key) > function.starting:
                wanted = self._wanted(function, now_ms)
            else:
                self._share_queues.setdefault(function.limit_key, {})[function] = None
        missing = provisioned.missing if now_ms >= provisioned.retry_at_ms else 0
        may_start = wanted + missing > 0 and function.start_retry is None
        if not may_start or not self._room.is_prepared(function):
            line.leave(function)
            return
        error = self._room.too_large(function)
        if error is not None:
            line.leave(function)
            if not function.sandboxes:
                self._waiting.refuse_all(function, error)
            return
        begun = self._begin_starts(function, missing, wanted) if line.may_start(function) else 0
        if begun == missing + wanted or function.start_retry is not None or function.is_paced:
            line.leave(function)
            return
        line.join(function)
        if begun:
            line.to_the_end(function)
        # Of those whose starts may be under way at once.
        self._room.make_for(line.front(self._settings.max_parallel_starts))

    def _begin_starts(self, function: HostedFunction, missing: int, wanted: int) -> int:
        """Those that are to be kept ready first; returns how many could be begun."""
        for number in range(missing + wanted):
            function.is_paced = not self._scaling.take(function.key, self._clock.monotonic_ms())
            if function.is_paced:
                return number
            try:
                if not self._room.start(function, is_provisioned=number < missing):
                    self._scaling.give_back(function.key)
                    return number
            except EvenflowError as e:
                self._scaling.give_back(function.key)
                if e.reason == Reason.ERROR_REASON_UNAVAILABLE:
                    self.start_unavailable(function, e)
                else:
                    self._waiting.refuse_all(function, e)
                return number
        return missing + wanted

    def _wanted(self, function: HostedFunction, now_ms: float) -> int:
        """Starts for those who wait, within what the share allows."""
        provisioned = function.provisioned
        demand = pool.Demand(
            idle=len(function.idle),
            busy=function.busy,
            starting=function.starting + provisioned.starting,
            waiting_sync=function.waiting_sync,
            waiting_async=len(function.waiting) - function.waiting_sync,
            oldest_wait_ms=now_ms - function.waiting[0].waiting_since_ms,
            quiet_ms=now_ms - function.last_end_ms if function.quiet_mark_ms == function.last_end_ms else 0.0,
            service_ms=function.service_ms,
        )
        possible = self._shares.free(function.limit_key) - function.starting
        return min(pool.starts_wanted(demand, self._rules), possible)

    def _feed(self) -> None:
        """Something ended: those who wait for a start have another look, in order, until one has to go on waiting."""
        for _ in range(len(self._line)):
            function = self._line.first
            if function is None:
                return
            self.pump(function)
            if self._line.first is function:
                return

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
