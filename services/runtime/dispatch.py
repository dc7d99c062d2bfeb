"""Invocation -> sandbox: takes what arrives and what sandboxes tell, all of it in callbacks on the loop.

waiting.py holds what waits, placing.py decides who is next, room.py bounds the sandboxes, sandbox_runs.py runs and
settles, provisioning.py keeps some ready, reconfiguration.py follows what is deployed. They call downwards only, in
this order: dispatch, reconfiguration, provisioning, placing, room and sandbox_runs, waiting.
"""

import asyncio
from collections.abc import Set

from evenflow.common.v1 import event_pb2

from services.policy.prices import request_units
from services.runtime import provisioning, refusals, running
from services.runtime.admission import Shares
from services.runtime.book import Configuration, FunctionBook, version_key_of
from services.runtime.function_log import FunctionLogs
from services.runtime.functions import RUNTIMES, HostedFunction
from services.runtime.nursery import Nursery
from services.runtime.placing import Placing
from services.runtime.provisioning import Provisioning
from services.runtime.reconfiguration import Reconfiguration
from services.runtime.room import Room
from services.runtime.runs import Run
from services.runtime.sandbox import frames
from services.runtime.sandbox_runs import SandboxRuns
from services.runtime.sandboxes import Sandbox
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.runtime.usage import UsageLedger
from services.runtime.waiting import WaitingRuns
from services.shared.clock import Clock
from services.shared.errors import EvenflowError

TICK_SECONDS = 1.0


class Dispatcher:
    """Decides for every invocation when and where it runs; owns the sandboxes through the nursery."""

    def __init__(
        self,
        settings: RuntimeSettings,
        configuration: Configuration,
        shares: Shares,
        logs: FunctionLogs,
        telemetry: Telemetry,
        usage: UsageLedger,
        clock: Clock,
        memory_budget_mb: int,
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._usage = usage
        self._clock = clock
        self._book = FunctionBook(configuration, logs, clock, on_replaced=self._on_replaced)
        self._waiting = WaitingRuns(settings, shares, telemetry, clock)
        self._runs = SandboxRuns(settings, shares, self._waiting, telemetry, usage, clock, lambda: self._book.view)
        self._room = Room(settings, shares, clock, memory_budget_mb)
        self._placing = Placing(settings, shares, self._waiting, self._runs, self._room, clock)
        self._provisioning = Provisioning(shares, self._book, self._room, self._placing, clock)
        self._reconfiguration = Reconfiguration(
            self._book, self._room, self._placing, self._provisioning, self.on_code_unavailable
        )
        self._quiet = asyncio.Event()
        self._ticks: asyncio.TimerHandle | None = None

    def start(self, nursery: Nursery) -> None:
        """Begin to look after sandboxes; nothing is submitted before."""
        self._room.nursery = nursery
        self._tick_later()

    @property
    def nursery(self) -> Nursery:
        """Where the sandboxes are; there once `start` was called."""
        return self._room.nursery

    @property
    def busy(self) -> int:
        """Sandboxes that run something."""
        return self._runs.busy

    @property
    def waiting(self) -> int:
        """Invocations that wait."""
        return self._waiting.count

    def memory_mb(self) -> dict[str, int]:
        """The memory budget of all sandboxes, and what is taken of it."""
        return self._room.memory_mb

    def functions(self) -> list[HostedFunction]:
        """Every version of a function that was invoked here of late."""
        return self._book.all()

    # --- arrival

    def submit(self, run: Run) -> None:
        """Take an invocation; its outcome is delivered in any case, perhaps at once."""
        key, revision = version_key_of(run), run.invocation.function_revision
        function = self._book.find(key, revision)
        if function is not None:
            self._admit(function, run)
        elif self._book.is_known(key[:2], revision):
            self._waiting.refuse(run, refusals.no_version(key))
        elif self._waiting.is_full or self._waiting.is_draining:
            self._waiting.refuse(run, refusals.no_room())
        else:
            self._waiting.count += 1
            self._book.ask(run, self._told)

    def _told(self, run: Run, function: HostedFunction | None, error: EvenflowError | None) -> None:
        self._waiting.count -= 1
        if function is not None:
            self._admit(function, run)
        elif error is not None:
            self._waiting.refuse(run, error)
        self._look_quiet()

    def _admit(self, function: HostedFunction, run: Run) -> None:
        waiting = self._waiting
        if waiting.is_draining:
            waiting.refuse(run, refusals.draining())
        elif function.is_closed:
            waiting.refuse(run, refusals.throttled(function))
        elif function.version.runtime not in RUNTIMES:
            waiting.refuse(run, refusals.unsupported(function.version.runtime))
        elif not function.waiting and (sandbox := self._placing.take_idle(function)) is not None:
            self._runs.begin(function, sandbox, run)
        elif waiting.is_full:
            waiting.refuse(run, refusals.no_room())
        else:
            waiting.add(function, run)
            self._placing.pump(function)

    def withdraw(self, unwanted: Set[Run]) -> None:
        """Whoever wanted these is gone: what has not begun does not begin."""
        self._waiting.withdraw(self._book.all(), unwanted)
        self._look_quiet()

    # --- what sandboxes tell; nursery.Keeper

    def on_idle(self, sandbox: Sandbox) -> None:
        """A start succeeded."""
        sandbox.function.start_failures = 0
        self._usage.initialised(sandbox.function.key, sandbox.init_started_ns, -(-sandbox.init_us // 1_000))
        self._rest_or_retire(sandbox)
        self._placing.after(sandbox.function)
        self._look_quiet()

    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None:
        """The handler came to its end: settle, and give the sandbox its next run."""
        function = sandbox.function
        if not self._runs.ended(sandbox, result):
            self._rest_or_retire(sandbox)
            self._placing.after(function)
            if self._waiting.is_draining:
                self._look_quiet()
            if sandbox.run is None:
                return
        # More may follow what it runs now, unless somebody else needs its share or its place.
        if not result.has_output and not self._placing.is_crowded(sandbox.limit_key):
            self._runs.send_ahead(function, sandbox)

    def _rest_or_retire(self, sandbox: Sandbox) -> None:
        function: HostedFunction = sandbox.function
        if function.code_key != sandbox.code_key or self._waiting.is_draining:
            self._room.retire(sandbox, "replaced")
        elif sandbox.is_provisioned:
            self._rest_ready(function, sandbox)
        elif sandbox.invocations and (cause := self._placing.gives_way(function)):
            self._room.retire(sandbox, cause)
        else:
            self._room.rest(sandbox)

    def _rest_ready(self, function: HostedFunction, sandbox: Sandbox) -> None:
        if self._provisioning.has_enough(function):
            self._room.retire(sandbox, "lowered")
            self._provisioning.report(function)
        else:
            self._room.rest(sandbox)
            if not sandbox.invocations:
                self._provisioning.succeeded(function)

    def on_output(self, sandbox: Sandbox, data: bytes) -> None:
        """It wrote to stdout or stderr."""
        self._runs.log_output(sandbox, data)

    def on_ending(self, sandbox: Sandbox) -> None:
        """It was told to end or ends by itself: if it was idle it is given no run any more."""
        self._room.remove(sandbox)

    def on_gone(self, sandbox: Sandbox, status: int) -> None:
        """A sandbox that had been ready is dead; a run in it failed."""
        function: HostedFunction = sandbox.function
        self._room.remove(sandbox)
        self._runs.died(sandbox, status)
        if sandbox.is_provisioned:
            self._provisioning.died(sandbox)
        self._telemetry.ended(sandbox.end_cause or "crashed")
        self._placing.after(function, made_room=True)
        self._look_quiet()

    def on_start_lost(self, sandbox: Sandbox, outcome: event_pb2.Outcome) -> None:
        """A start failed: whoever waited longest gets that as the outcome, unless it was to be kept ready."""
        function: HostedFunction = sandbox.function
        if sandbox.is_provisioned:
            self._provisioning.failed(function, provisioning.text_of(outcome))
        elif function.waiting:
            run = self._waiting.next(function)
            if outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
                function.log.append(running.start_failed(run, outcome, function.version.memory_mb))
                units = request_units(run.payload_bytes, is_sync=run.is_sync)
                self._usage.ran(function.key, self._clock.wall_ns(), sandbox.memory_mb, 0, units, is_error=True)
            self._telemetry.settled(run, outcome, None)
            run.deliver(run, outcome)
        self._placing.after(function, made_room=True)
        self._look_quiet()

    def on_start_unavailable(self, function: HostedFunction, error: EvenflowError) -> None:
        """The machine, not the function, is why a start failed."""
        self._placing.start_unavailable(function, error)
        self._provisioning.hindered(function, error)
        self._placing.after(function, made_room=True)
        self._look_quiet()

    def on_prepared(self, function: HostedFunction) -> None:
        """Its code and a parent are there now."""
        self._placing.pump(function)

    def on_room(self, function: HostedFunction) -> None:
        """Memory came free that was no sandbox's."""
        self._placing.after(function, made_room=True)

    def on_code_unavailable(self, function: HostedFunction, error: EvenflowError) -> None:
        """Nothing can be started: all who wait are told."""
        self._waiting.refuse_all(function, error)
        self._provisioning.hindered(function, error)
        self._look_quiet()

    # --- configuration and time

    def _on_replaced(self, function: HostedFunction) -> None:
        self._reconfiguration.replaced(function)

    def configuration_changed(self) -> None:
        """Follow the view: new revisions retire what is idle, what was deleted ends."""
        self._reconfiguration.follow()

    def shares_changed(self) -> None:
        """A target rose or fell."""
        self._placing.shares_changed()
        self._provisioning.follow_soon()

    def _tick(self) -> None:
        now_ms = self._clock.monotonic_ms()
        idle_ms = self._settings.idle_seconds * 1_000
        self._room.retire_expired(now_ms)
        self._placing.tick(now_ms)
        for function in self._provisioning.functions():
            self._placing.pump(function)
        for function in self._book.all():
            if not function.sandboxes and now_ms - function.last_used_ms >= idle_ms:
                self.nursery.drop_seats(function)
                self._book.forget(function)
        self._tick_later()

    def _tick_later(self) -> None:
        period = min(TICK_SECONDS, self._settings.idle_seconds / 4)
        self._ticks = asyncio.get_running_loop().call_later(period, self._tick)

    # --- the end

    async def drain(self) -> None:
        """Refuse what waits and what comes, let what runs come to its end."""
        self._waiting.is_draining = True
        self._provisioning.stop()
        for function in self._book.all():
            self._waiting.refuse_all(function, refusals.draining())
            self._room.retire_idle(function, "replaced")
        self._look_quiet()
        await self._quiet.wait()

    async def stop(self) -> None:
        """Stop deciding."""
        if self._ticks is not None:
            self._ticks.cancel()
        self._provisioning.stop()
        await self._book.stop()
        for function in self._book.all():
            for timer in (function.timer, function.start_retry):
                if timer is not None:
                    timer.cancel()
        self._quiet.set()

    def _look_quiet(self) -> None:
        # Nothing new is admitted while it drains: once quiet, it stays so.
        if self._waiting.is_draining and not self._runs.busy and not self._waiting.count:
            self._quiet.set()
