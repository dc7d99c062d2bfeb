"""The runs of a sandbox: begun, sent ahead, timed out, settled, logged. The way of every invocation: keep it short."""

import asyncio
from collections.abc import Callable

from evenflow.common.v1 import event_pb2

from services.policy.prices import request_units
from services.runtime import log_lines, pool, running, runs
from services.runtime.admission import Shares
from services.runtime.functions import HostedFunction
from services.runtime.runs import Run
from services.runtime.sandbox import frames
from services.runtime.sandboxes import TAIL_BYTES, Sandbox
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.runtime.usage import UsageLedger
from services.runtime.waiting import WaitingRuns
from services.shared.clock import Clock
from services.shared.config_view import ConfigView

MAX_AHEAD_PAYLOAD_BYTES = 8_192


class SandboxRuns:
    """Gives runs to sandboxes and settles them. `busy`: sandboxes that run something."""

    def __init__(
        self,
        settings: RuntimeSettings,
        shares: Shares,
        waiting: WaitingRuns,
        telemetry: Telemetry,
        usage: UsageLedger,
        clock: Clock,
        view: Callable[[], ConfigView],
    ) -> None:
        self.busy = 0
        self._settings = settings
        self._shares = shares
        self._waiting = waiting
        self._telemetry = telemetry
        self._usage = usage
        self._clock = clock
        self._view = view

    def begin(self, function: HostedFunction, sandbox: Sandbox, run: Run) -> None:
        """Give an idle sandbox a run; the caller has taken its share."""
        sandbox.state = "busy"
        if sandbox.is_provisioned:
            function.provisioned.busy += 1
        sandbox.limit_key = function.limit_key
        function.busy += 1
        self.busy += 1
        sandbox.send(self._frame(function, run, is_ahead=False))
        self._run_begins(function, sandbox, run)

    def ended(self, sandbox: Sandbox, result: frames.Result) -> bool:
        """The handler came to its end: settle; returns whether the sandbox goes on with a run that was sent ahead."""
        run, function = sandbox.run, sandbox.function
        assert run is not None
        if result.has_output:
            sandbox.take_output()
        elapsed_us = max(0, int((self._clock.monotonic_ms() - run.begun_ms) * 1_000))
        duration_us = runs.duration_us_of(result.duration_us, elapsed_us, has_next=sandbox.results_behind > 0)
        outcome = runs.of_result(
            result,
            function.number,
            sandbox.sandbox_id,
            sandbox.init_us if sandbox.is_cold else 0,
            duration_us=duration_us,
            ended_ns=self._clock.wall_ns(),
            max_rss_kb=max(result.max_rss_kb, sandbox.seen_rss_kb),
        )
        # The handler's own time: what the host adds under load is no reason for a further sandbox.
        service_us = min(result.duration_us, duration_us)
        self._settle(sandbox, run, outcome, service_us)
        if not sandbox.ahead:
            self._is_free(function, sandbox)
            return False
        # It goes on by itself, under the share that it has.
        if result.has_output:
            sandbox.send(frames.pack_go())
        following = sandbox.ahead.popleft()
        self._run_begins(function, sandbox, following)
        if sandbox.results_behind:
            following.begun_ms = run.begun_ms + duration_us / 1_000
        return True

    def died(self, sandbox: Sandbox, status: int) -> None:
        """The sandbox is dead; its run failed, and what it had been sent ahead waits again."""
        run, function = sandbox.run, sandbox.function
        if run is not None:
            outcome, text = running.died(run, sandbox, function.version.timeout_ms, status, self._clock)
            function.log.append(text)
            self._settle(sandbox, run, outcome, outcome.duration_us)
            self._is_free(function, sandbox)
            self._waiting.put_back(function, sandbox.ahead)
        if sandbox.timer is not None:
            sandbox.timer.cancel()
            sandbox.timer = None

    def send_ahead(self, function: HostedFunction, sandbox: Sandbox) -> None:
        """Fill the busy sandbox's channel with what waits; the caller knows that nobody else needs its place."""
        if not function.waiting or function.idle or self._waiting.is_draining:
            return
        if function.code_key != sandbox.code_key:
            return
        if function.limit_key != sandbox.limit_key:
            return
        room = pool.runs_ahead(function.service_ms) - len(sandbox.ahead)
        parts: list[bytes] = []
        while room > len(parts) and function.waiting and _may_wait_ahead(function.waiting[0]):
            run = self._waiting.next(function)
            sandbox.ahead.append(run)
            parts.append(self._frame(function, run, is_ahead=True))
        if parts:
            sandbox.send(b"".join(parts))

    def log_output(self, sandbox: Sandbox, data: bytes) -> None:
        """Log what the sandbox wrote, within the bound of a run."""
        function: HostedFunction = sandbox.function
        run = sandbox.run
        if run is None:
            sandbox.idle_output_bytes += len(data)
            if sandbox.idle_output_bytes <= self._settings.output_bytes:
                function.log.append_output(data)
            return
        room = self._settings.output_bytes - run.output_bytes
        run.output_bytes += len(data)
        if run.tail is not None:
            run.tail += data
            del run.tail[:-TAIL_BYTES]
        if room <= 0:
            return
        function.log.append_output(data[:room])
        if len(data) > room:
            text = f"[evenflow] output of this invocation beyond {self._settings.output_bytes} bytes is dropped\n"
            function.log.append(text.encode())

    def _frame(self, function: HostedFunction, run: Run, *, is_ahead: bool) -> bytes:
        arn = run.invocation.invoked_function_arn or function.arn(self._view().fleet)
        return running.invoke_frame(run, arn, function.version.timeout_ms, is_ahead=is_ahead)

    def _run_begins(self, function: HostedFunction, sandbox: Sandbox, run: Run) -> None:
        now_ms = self._clock.monotonic_ms()
        run.begun_ms = function.last_used_ms = function.last_begun_ms = now_ms
        sandbox.run = run
        function.log.append(log_lines.start(run.request_id, function.number))
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

    def _settle(self, sandbox: Sandbox, run: Run, outcome: event_pb2.Outcome, service_us: int) -> None:
        """A run is over: its log lines, numbers and outcome."""
        function: HostedFunction = sandbox.function
        init_span = (sandbox.init_started_ns, sandbox.init_ended_ns) if sandbox.is_cold else None
        sandbox.run = None
        sandbox.invocations += 1
        sandbox.is_cold = False
        function.service_ms = pool.smoothed(function.service_ms, service_us / 1_000)
        function.last_end_ms = self._clock.monotonic_ms()
        is_restored = sandbox.is_restored
        function.log.append(running.finished(run, outcome, function.version.memory_mb, is_restored=is_restored))
        self._telemetry.settled(run, outcome, init_span)
        self._usage.ran(
            function.key,
            outcome.started_at_unix_nano,
            sandbox.memory_mb,
            outcome.billed_duration_ms + log_lines.billed_restore_ms_of(outcome.init_duration_us, is_restored),
            request_units(run.payload_bytes, is_sync=run.is_sync),
            is_error=outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED,
        )
        if function.provisioned.target:
            self._telemetry.provisioned(function.version_key, is_spillover=not sandbox.is_provisioned)
        run.deliver(run, outcome)

    def _is_free(self, function: HostedFunction, sandbox: Sandbox) -> None:
        """The sandbox runs nothing any more: its share goes back."""
        function.busy -= 1
        self.busy -= 1
        self._shares.give_back(sandbox.limit_key)
        if sandbox.is_provisioned:
            function.provisioned.busy -= 1


def _may_wait_ahead(run: Run) -> bool:
    """Somebody who waits synchronously gets a sandbox of his own; a large payload would fill the channel."""
    return not run.is_sync and run.payload_bytes <= MAX_AHEAD_PAYLOAD_BYTES
