"""Invocation -> sandbox: shares, waiting, cold starts, reuse, eviction. All of it in callbacks on the loop."""

import asyncio
from collections.abc import Set
from itertools import islice
from typing import cast

from evenflow.common.v1 import event_pb2

from services.runtime import log_lines, pool, refusals, running, runs
from services.runtime.admission import Shares
from services.runtime.book import Configuration, FunctionBook
from services.runtime.function_log import FunctionLogs
from services.runtime.functions import LATEST, RUNTIMES, HostedFunction, arn_of
from services.runtime.nursery import Nursery
from services.runtime.runs import Run
from services.runtime.sandbox import frames
from services.runtime.sandboxes import TAIL_BYTES, Sandbox
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError

TICK_SECONDS = 1.0
EXPIRY_SCAN_MS = 20.0
# How long a run waits on a host that was given no share of its function's limit.
SHARE_WAIT_MS = 250
MAX_AHEAD_PAYLOAD_BYTES = 8_192


class Dispatcher:
    """Decides for every invocation when and where it runs; owns the sandboxes through the nursery."""

    def __init__(
        self,
        settings: RuntimeSettings,
        configuration: Configuration,
        shares: Shares,
        logs: FunctionLogs,
        clock: Clock,
    ) -> None:
        self.shares = shares
        self.waiting = 0
        self.busy = 0
        self.is_draining = False
        self.telemetry: Telemetry
        self.nursery: Nursery
        self._settings = settings
        self._book = FunctionBook(
            configuration, logs, clock, on_replaced=lambda function: self._retire_idle(function, "replaced")
        )
        self._clock = clock
        self._rules = pool.ScaleRules(settings.scale_after_ms, settings.scale_backlog_ms)
        # In order of arrival: who waits for a start, and who waits for a share, by limit.
        self._hungry: dict[HostedFunction, None] = {}
        self._share_queues: dict[str, dict[HostedFunction, None]] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._ticks: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look after idle sandboxes."""
        period = min(TICK_SECONDS, self._settings.idle_seconds / 4)
        self._ticks = asyncio.get_running_loop().call_later(period, self._tick)

    def functions(self) -> list[HostedFunction]:
        """Every function that was invoked here of late."""
        return self._book.all()

    # --- arrival

    def submit(self, run: Run) -> None:
        """Take an invocation; its outcome is delivered in any case, perhaps at once."""
        invocation = run.invocation
        key = invocation.tenant_id, invocation.function_name
        function = self._book.find(key, invocation.function_revision)
        if function is not None:
            self._admit(function, run)
        elif self.waiting >= self._settings.max_waiting or self.is_draining:
            self._refuse(run, refusals.no_room())
        else:
            self.waiting += 1
            self._book.ask(key, run, self._told)

    def _told(self, run: Run, function: HostedFunction | None, error: EvenflowError | None) -> None:
        self.waiting -= 1
        if function is not None:
            self._admit(function, run)
        else:
            text = f"no function {run.invocation.function_name!r} is deployed for this tenant"
            self._refuse(run, error or refusals.not_found(text))
        self._look_quiet()

    def _admit(self, function: HostedFunction, run: Run) -> None:
        if run.invocation.version not in (LATEST, ""):
            self._refuse(run, refusals.not_found(f"{function.key[1]!r} has no version {run.invocation.version!r}"))
        elif self.is_draining:
            self._refuse(run, refusals.draining())
        elif function.is_closed:
            self._refuse(run, refusals.throttled(function))
        elif function.version.runtime not in RUNTIMES:
            self._refuse(run, refusals.unsupported(function.version.runtime))
        elif function.idle and not function.waiting and self.shares.take(function.limit_key):
            self._begin(function, function.idle.pop(), run)
        elif self.waiting >= self._settings.max_waiting:
            self._refuse(run, refusals.no_room())
        else:
            self._wait(function, run)
            self._pump(function)

    def _wait(self, function: HostedFunction, run: Run) -> None:
        now_ms = self._clock.monotonic_ms()
        run.waiting_since_ms = now_ms
        wait_ms = run.invocation.max_wait_ms or self._settings.max_wait_ms
        if function.is_reserved and not self.shares.is_known(function.limit_key):
            # Its share comes in a moment, or another host has all of it.
            wait_ms = min(wait_ms, SHARE_WAIT_MS)
        run.expires_ms = now_ms + wait_ms
        if not function.waiting or run.expires_ms < function.next_expiry_ms:
            function.next_expiry_ms = run.expires_ms
        function.waiting.append(run)
        function.waiting_sync += run.is_sync
        self.waiting += 1
        self._quiet.clear()

    # --- placing what waits

    def _pump(self, function: HostedFunction) -> None:
        """Run what can run, start what should start, come back when time may change that."""
        while function.waiting and function.idle and self.shares.take(function.limit_key):
            self._begin(function, function.idle.pop(), self._next(function))
        if not function.waiting:
            return
        if function.timer is not None and not function.waiting_sync and function.busy:
            # From a queue, and something runs: only time can change what is wanted, and the timer comes.
            return
        now_ms = self._clock.monotonic_ms()
        if now_ms >= function.next_expiry_ms:
            self._expire(function, now_ms)
            if not function.waiting:
                return
        if self.shares.free(function.limit_key) <= function.starting:
            self._share_queues.setdefault(function.limit_key, {})[function] = None
        elif not self._start_wanted(function, now_ms):
            self._hungry[function] = None
        if function.timer is None and function.waiting:
            delay_ms = max(1.0, min(self._settings.scale_after_ms or EXPIRY_SCAN_MS, EXPIRY_SCAN_MS))
            function.timer = asyncio.get_running_loop().call_later(delay_ms / 1_000, self._timer, function)

    def _timer(self, function: HostedFunction) -> None:
        function.timer = None
        self._pump(function)
        function.quiet_mark_ms = function.last_end_ms

    def _next(self, function: HostedFunction) -> Run:
        run = function.waiting.popleft()
        function.waiting_sync -= run.is_sync
        self.waiting -= 1
        return run

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
        possible = self.shares.free(function.limit_key) - function.starting
        for _ in range(min(wanted, possible)):
            if not self._make_room(function) or not self.nursery.begin(function):
                return False
        return wanted <= possible or possible <= 0

    def _make_room(self, function: HostedFunction) -> bool:
        """Whether one more sandbox may exist; an idle one of another function is ended for it."""
        if self.nursery.starting >= self._settings.max_parallel_starts:
            return False
        if self.nursery.count < self._settings.max_sandboxes:
            return True
        if self.nursery.ending >= max(1, len(self._hungry)):
            # Room is on its way: do not end a second one for the same need.
            return False
        idle = (pool.Idle(s.number, f, s.idle_since_ms) for f in self._book.all() for s in f.idle)
        number = pool.victim(idle, function)
        if number is not None:
            self._retire(self.nursery.sandboxes[number], "evicted")
        # The room is there when it is gone: the hungry are fed then.
        return False

    def _feed(self) -> None:
        """Something ended: those who waited for room have another look, in order."""
        for function in list(self._hungry):
            del self._hungry[function]
            self._pump(function)

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
            chosen = pool.next_in_line(line, self.waiting + self.busy, self._clock.monotonic_ms())
            function = cast(HostedFunction, chosen.owner)
        del queue[function]
        if function is not own:
            self._pump(function)

    # --- one run

    def _begin(self, function: HostedFunction, sandbox: Sandbox, run: Run) -> None:
        """Give an idle sandbox a run; the caller has taken its share."""
        sandbox.state = "busy"
        sandbox.limit_key = function.limit_key
        function.busy += 1
        self.busy += 1
        self._quiet.clear()
        sandbox.send(self._frame(function, run, is_ahead=False))
        self._run_begins(function, sandbox, run)

    def _frame(self, function: HostedFunction, run: Run, *, is_ahead: bool) -> bytes:
        arn = run.invocation.invoked_function_arn or arn_of(function.function, self._book.view.fleet)
        return running.invoke_frame(run, arn, function.version.timeout_ms, is_ahead=is_ahead)

    def _run_begins(self, function: HostedFunction, sandbox: Sandbox, run: Run) -> None:
        now_ms = self._clock.monotonic_ms()
        run.begun_ms = function.last_used_ms = function.last_begun_ms = now_ms
        sandbox.run = run
        function.log.append(log_lines.start(run.request_id, LATEST))
        timeout_ms = function.version.timeout_ms
        sandbox.deadline_ms = now_ms + timeout_ms
        if sandbox.timer is None:
            sandbox.timer = asyncio.get_running_loop().call_later(timeout_ms / 1_000, self._on_deadline, sandbox)

    def _on_deadline(self, sandbox: Sandbox) -> None:
        # One timer serves many runs: it is cheaper to look again than to make and cancel one for each.
        sandbox.timer = None
        if sandbox.run is None:
            return
        left_ms = sandbox.deadline_ms - self._clock.monotonic_ms()
        if left_ms <= 0:
            sandbox.end("timeout", self._settings.term_grace_ms)
        else:
            sandbox.timer = asyncio.get_running_loop().call_later(left_ms / 1_000, self._on_deadline, sandbox)

    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None:
        """The handler came to its end: settle, and give the sandbox its next run."""
        run, function = sandbox.run, sandbox.function
        assert run is not None
        if result.has_output:
            sandbox.take_output()
        ended_ns = self._clock.wall_ns()
        outcome = runs.of_result(
            result,
            LATEST,
            sandbox.sandbox_id,
            0 if sandbox.invocations else sandbox.init_us,
            began_ns=run.received_ns,
            ended_ns=ended_ns,
        )
        self._settle(sandbox, run, outcome)
        if sandbox.ahead:
            # It goes on by itself, under the share that it has.
            if result.has_output:
                sandbox.send(frames.pack_go())
            self._run_begins(function, sandbox, sandbox.ahead.popleft())
            self._send_ahead(function, sandbox, result.has_output)
            return
        self._is_free(function, sandbox)
        if function.code_key != sandbox.code_key or self.is_draining:
            self._retire(sandbox, "replaced")
        else:
            sandbox.state = "idle"
            sandbox.idle_since_ms = self._clock.monotonic_ms()
            starved = next((f for f in self._hungry if not f.sandboxes and f is not function), None)
            if starved is not None and self.nursery.count >= self._settings.max_sandboxes:
                # A function with nothing at all comes before a further run of one that has something.
                self._hungry.pop(function, None)
                self._retire(sandbox, "evicted")
            else:
                function.idle.append(sandbox)
        self._after(function)
        if sandbox.run is not None:
            self._send_ahead(function, sandbox, result.has_output)

    def _send_ahead(self, function: HostedFunction, sandbox: Sandbox, has_output: bool) -> None:
        """Fill the sandbox's channel with what waits, unless somebody else needs its share or its place."""
        if has_output or not function.waiting or function.idle or self.is_draining or self._hungry:
            return
        if function.code_key != sandbox.code_key or function.limit_key != sandbox.limit_key:
            return
        if self._share_queues.get(sandbox.limit_key):
            return
        room = pool.runs_ahead(function.service_ms) - len(sandbox.ahead)
        parts: list[bytes] = []
        while room > len(parts) and function.waiting and _may_wait_ahead(function.waiting[0]):
            run = self._next(function)
            sandbox.ahead.append(run)
            parts.append(self._frame(function, run, is_ahead=True))
        if parts:
            sandbox.send(b"".join(parts))

    def _settle(self, sandbox: Sandbox, run: Run, outcome: event_pb2.Outcome) -> None:
        """A run is over: its log lines, numbers and outcome."""
        function: HostedFunction = sandbox.function
        init_span = None if sandbox.invocations else (sandbox.init_started_ns, sandbox.init_ended_ns)
        sandbox.run = None
        sandbox.invocations += 1
        # The handler's own time: what the host adds under load is no reason for a further sandbox.
        function.service_ms = pool.smoothed(function.service_ms, outcome.duration_us / 1_000)
        function.last_end_ms = self._clock.monotonic_ms()
        function.log.append(running.finished(run, outcome, function.version.memory_mb))
        self.telemetry.settled(run, outcome, init_span)
        run.deliver(run, outcome)

    def _is_free(self, function: HostedFunction, sandbox: Sandbox) -> None:
        """The sandbox runs nothing any more: its share goes back."""
        function.busy -= 1
        self.busy -= 1
        self.shares.give_back(sandbox.limit_key)

    def _after(self, function: HostedFunction, *, made_room: bool = False) -> None:
        self._rotate(function.limit_key, function)
        # A sandbox that came free is its own function's first; room that was made is for who waited for it.
        if not made_room:
            self._pump(function)
        if self._hungry:
            self._feed()
        if made_room:
            self._pump(function)
        self._look_quiet()

    def on_output(self, sandbox: Sandbox, data: bytes) -> None:
        """Log what the sandbox wrote, within the bound of a run."""
        function: HostedFunction = sandbox.function
        run = sandbox.run
        if run is None:
            sandbox.idle_output_bytes += len(data)
            if sandbox.idle_output_bytes <= self._settings.output_bytes:
                function.log.append(data)
            return
        room = self._settings.output_bytes - run.output_bytes
        run.output_bytes += len(data)
        if run.tail is not None:
            run.tail += data
            del run.tail[:-TAIL_BYTES]
        if room <= 0:
            return
        function.log.append(data[:room])
        if len(data) > room:
            text = f"\n[evenflow] output of this invocation beyond {self._settings.output_bytes} bytes is dropped\n"
            function.log.append(text.encode())

    def withdraw(self, runs: Set[Run]) -> None:
        """Whoever wanted these is gone: what has not begun does not begin; its lease is another's."""
        for function in self._book.all():
            if any(run in runs for run in function.waiting):
                left = [run for run in function.waiting if run not in runs]
                self.waiting -= len(function.waiting) - len(left)
                function.waiting.clear()
                function.waiting.extend(left)
                function.waiting_sync = sum(run.is_sync for run in left)
        self._look_quiet()

    # --- starts and ends

    def on_idle(self, sandbox: Sandbox) -> None:
        """A start succeeded."""
        function: HostedFunction = sandbox.function
        if function.code_key != sandbox.code_key or self.is_draining:
            self._retire(sandbox, "replaced")
        else:
            sandbox.state = "idle"
            sandbox.idle_since_ms = self._clock.monotonic_ms()
            function.idle.append(sandbox)
        self._after(function)

    def on_start_lost(self, function: HostedFunction, outcome: event_pb2.Outcome) -> None:
        """A start failed: whoever waited longest gets that as the outcome."""
        if function.waiting:
            run = self._next(function)
            if outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
                function.log.append(running.start_failed(run, outcome, function.version.memory_mb))
            self.telemetry.settled(run, outcome, None)
            run.deliver(run, outcome)
        self._after(function)

    def on_prepared(self, function: HostedFunction) -> None:
        """Its code and a parent are there now."""
        self._pump(function)

    def on_code_unavailable(self, function: HostedFunction, error: EvenflowError) -> None:
        """Nothing can be started: all who wait are told."""
        while function.waiting:
            self._refuse(self._next(function), error)
        self._look_quiet()

    def on_gone(self, sandbox: Sandbox, status: int) -> None:
        """A sandbox that had been ready is dead; a run in it failed."""
        function: HostedFunction = sandbox.function
        if sandbox in function.idle:
            function.idle.remove(sandbox)
        run = sandbox.run
        if run is not None:
            outcome, text = running.died(run, sandbox, function.version.timeout_ms, status, self._clock)
            function.log.append(text)
            self._settle(sandbox, run, outcome)
            self._is_free(function, sandbox)
            self._wait_again(function, sandbox)
        if sandbox.timer is not None:
            sandbox.timer.cancel()
            sandbox.timer = None
        self.telemetry.ended(sandbox.end_cause or "crashed")
        self._after(function, made_room=True)

    def _wait_again(self, function: HostedFunction, sandbox: Sandbox) -> None:
        """What had been sent ahead to a sandbox that died never began: it waits in front."""
        ahead = sandbox.ahead
        if not ahead:
            return
        if self.is_draining:
            while ahead:
                self._refuse(ahead.popleft(), refusals.draining())
            return
        # Its time to wait goes on from where it was.
        function.next_expiry_ms = min(run.expires_ms for run in (*ahead, *function.waiting))
        self.waiting += len(ahead)
        function.waiting.extendleft(reversed(ahead))
        ahead.clear()

    def _retire(self, sandbox: Sandbox, cause: str) -> None:
        idle = sandbox.function.idle
        if sandbox in idle:
            idle.remove(sandbox)
        sandbox.end(cause)

    def _retire_idle(self, function: HostedFunction, cause: str) -> None:
        for sandbox in list(function.idle):
            self._retire(sandbox, cause)
        self.nursery.drop_seats(function)

    # --- refusals, time, configuration

    def _refuse(self, run: Run, error: EvenflowError) -> None:
        outcome = runs.refused(error)
        self.telemetry.settled(run, outcome, None)
        run.deliver(run, outcome)

    def _expire(self, function: HostedFunction, now_ms: float) -> None:
        left = [run for run in function.waiting if run.expires_ms > now_ms]
        late = [run for run in function.waiting if run.expires_ms <= now_ms]
        function.waiting.clear()
        function.waiting.extend(left)
        function.waiting_sync = sum(run.is_sync for run in left)
        function.next_expiry_ms = min((run.expires_ms for run in left), default=0.0)
        self.waiting -= len(late)
        has_share = self.shares.free(function.limit_key) > 0 or not self.shares.is_known(function.limit_key)
        for run in late:
            self._refuse(run, refusals.no_room() if has_share else refusals.throttled(function))
        if late:
            self._look_quiet()

    def configuration_changed(self) -> None:
        """Follow the view: new revisions retire what is idle, deleted functions end."""
        known = self._book.view.functions
        for function in self._book.all():
            found = known.get(function.key)
            if found is None:
                self._retire_idle(function, "replaced")
                self.on_code_unavailable(function, refusals.not_found(f"function {function.key[1]!r} was deleted"))
                # Sandboxes that are busy end after their run: their code is no longer the function's.
                function.code_key = b"deleted"
                self._book.forget(function)
            elif found is not function.function and found.revision >= function.function.revision:
                old_key = function.limit_key
                if function.take(found):
                    self._retire_idle(function, "replaced")
                self._share_queues.get(old_key, {}).pop(function, None)
                self._pump(function)

    def shares_changed(self) -> None:
        """A target rose or fell."""
        for queue in list(self._share_queues.values()):
            for function in list(queue):
                queue.pop(function, None)
                self._pump(function)

    def _tick(self) -> None:
        now_ms = self._clock.monotonic_ms()
        idle_ms = self._settings.idle_seconds * 1_000
        for function in self._book.all():
            idle = [pool.Idle(s.number, function, s.idle_since_ms) for s in function.idle]
            for number in pool.expired(idle, now_ms, idle_ms):
                self._retire(self.nursery.sandboxes[number], "idle")
            if not function.sandboxes and now_ms - function.last_used_ms >= idle_ms:
                self.nursery.drop_seats(function)
                self._book.forget(function)
        period = min(TICK_SECONDS, self._settings.idle_seconds / 4)
        self._ticks = asyncio.get_running_loop().call_later(period, self._tick)

    # --- the end

    async def drain(self) -> None:
        """Refuse what waits and what comes, let what runs come to its end."""
        self.is_draining = True
        for function in self._book.all():
            self.on_code_unavailable(function, refusals.draining())
            self._retire_idle(function, "replaced")
        self._look_quiet()
        await self._quiet.wait()

    async def stop(self) -> None:
        """Stop deciding."""
        if self._ticks is not None:
            self._ticks.cancel()
        await self._book.stop()
        for function in self._book.all():
            if function.timer is not None:
                function.timer.cancel()
        self._quiet.set()

    def _look_quiet(self) -> None:
        if not self.busy and not self.waiting:
            self._quiet.set()


def _in_line(function: HostedFunction) -> pool.InLine:
    oldest_ms = function.waiting[0].waiting_since_ms
    present = len(function.waiting) + function.busy
    return pool.InLine(function, present, oldest_ms, max(oldest_ms, function.last_begun_ms))


def _may_wait_ahead(run: Run) -> bool:
    """Somebody who waits synchronously gets a sandbox of his own; a large payload would fill the channel."""
    return not run.is_sync and len(run.invocation.payload) <= MAX_AHEAD_PAYLOAD_BYTES
