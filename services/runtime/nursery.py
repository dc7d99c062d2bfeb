"""Makes sandboxes: package, prepared parent, seat, fork, handler loaded; and accounts for every one that lives."""

import asyncio
import json
import logging
from typing import Any

from services.runtime import log_lines, watch
from services.runtime.blanks import Blanks
from services.runtime.census import Census
from services.runtime.cgroups import Cgroups
from services.runtime.environment import INITIALIZATION_TYPE, PROVISIONED, SNAP_START, Environments
from services.runtime.fork_requests import fork_request
from services.runtime.forks_at_hand import ForksAtHand
from services.runtime.functions import HostedFunction
from services.runtime.intake import Intake
from services.runtime.keeper import Keeper
from services.runtime.kept_seats import KeptSeats
from services.runtime.parentage import Parents
from services.runtime.parents import PreparedParent
from services.runtime.preparation import Preparation
from services.runtime.sandbox import frames
from services.runtime.sandbox_watch import SandboxWatch
from services.runtime.sandboxes import INIT_TIMEOUT, RESTORE_TIMEOUT, Sandbox
from services.runtime.seats import Seat, Seats
from services.runtime.settings import RuntimeSettings
from services.runtime.snapshots import RESTORE_SECONDS, Snapshots
from services.runtime.spares import Spares
from services.runtime.start_failures import RETRY_AFTER_MS, StartFailures
from services.runtime.telemetry import Telemetry
from services.runtime.template_forks import TemplateFork
from services.runtime.tiers import Isolation
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

# After these the function's next sandbox gets the same /tmp, as AWS does it; not after one that filled it.
CRASHES = ("", "crashed", "timeout", INIT_TIMEOUT, "broke protocol", watch.MEMORY, watch.PROCESSES)
log = logging.getLogger(__name__)


class Nursery:
    """Owns all sandboxes of the host from the fork to the end of the process."""

    def __init__(
        self,
        settings: RuntimeSettings,
        keeper: Keeper,
        intake: Intake,
        parents: Parents,
        seats: Seats,
        isolation: Isolation,
        cgroups: Cgroups | None,
        telemetry: Telemetry,
        clock: Clock,
        environments: Environments,
    ) -> None:
        self.sandboxes: dict[int, Sandbox] = {}
        self.census = Census()
        self._settings = settings
        self._keeper = keeper
        self._intake = intake
        self._parents = parents
        self._seats = KeptSeats(seats)
        self._telemetry = telemetry
        self._clock = clock
        self._environments = environments
        self._stopping = False
        self._empty = asyncio.Event()
        self._start_failures = StartFailures(settings.init_seconds)
        self._isolation = isolation
        self._blanks = Blanks(settings, self, cgroups)
        self._spares = Spares(self._blanks.make, settings.spare_sandboxes)
        self.snapshots = Snapshots(
            isolation,
            self._seats,
            cgroups,
            self.census,
            clock,
            settings.idle_seconds,
            settings.output_bytes,
            keeper.on_room,
            ForksAtHand(self._blanks.make, settings.spare_sandboxes),
        )
        self._watch = SandboxWatch(settings, isolation, self._living, self.snapshots.tick)
        self._preparation = Preparation(
            keeper, intake, self.snapshots, self._start_failures, settings.init_seconds, lambda: self._stopping
        )

    @property
    def count(self) -> int:
        """Sandboxes that exist, those on their way in or out included."""
        return self.census.count

    def is_prepared(self, function: HostedFunction, room_mb: int) -> bool:
        """Whether its code, a parent and a template are there; if not, they are being made ready: on_prepared follows.

        room_mb: memory that templates and sandboxes on demand may have.
        """
        parent = self._intake.parent_of(function)
        is_up = function.launch is not None and parent is not None and parent.is_up
        if is_up and not self.snapshots.wants_template(function, room_mb):
            return True
        if function.preparing is None and not self._stopping:
            preparing = self._preparation.run(function, room_mb, self._take_for_template, self._request)
            function.preparing = asyncio.create_task(preparing, name="prepare")
        return False

    def begin(self, function: HostedFunction, *, is_provisioned: bool = False) -> bool:
        """Begin a cold start of a function that is prepared; False: no seat is free, or the host stops.

        EvenflowError: UNAVAILABLE, another try may do; INVALID_PARAMETER, none will.
        """
        parent, launch = self._intake.parent_of(function), function.launch
        if self._stopping or parent is None or launch is None:
            return False
        placed: tuple[Sandbox, Seat] | None = None
        try:
            placed = self._blank_for(function, parent)
            if placed is None:
                return False
            sandbox, seat = placed
            fork = sandbox.parent if isinstance(sandbox.parent, TemplateFork) else None
            request = self._request(function, sandbox, seat)
            if fork is not None:
                request["environment"][INITIALIZATION_TYPE] = SNAP_START
            if is_provisioned:
                request["environment"][INITIALIZATION_TYPE] = PROVISIONED
            configuration = json.dumps(request).encode()
            self._blanks.limit(sandbox, function.version.memory_mb)
            sandbox.init_started_ns = self._clock.wall_ns()
            sandbox.assign(function, seat, configuration)
        except (OSError, ValueError) as e:
            if placed is not None:
                placed[0].end("stopped")
                if not isinstance(placed[0].parent, TemplateFork):
                    self._seats.give_back(placed[1])
            may_pass = isinstance(e, OSError)
            reason = Reason.ERROR_REASON_UNAVAILABLE if may_pass else Reason.ERROR_REASON_INVALID_PARAMETER
            raise EvenflowError(reason, f"a sandbox cannot be started: {e}", RETRY_AFTER_MS if may_pass else 0) from e
        self.sandboxes[sandbox.number] = sandbox
        self._empty.clear()
        sandbox.is_provisioned = is_provisioned
        self.census.begun(sandbox)
        self._telemetry.started(*function.key)
        if fork is not None:
            sandbox.is_restored = fork.is_used = True
        begins = log_lines.restore_start if sandbox.is_restored else log_lines.init_start
        function.log.append(begins(launch.label, "evenflow"))
        seconds, cause = self._settings.init_seconds, INIT_TIMEOUT
        if sandbox.is_restored:
            seconds, cause = RESTORE_SECONDS, RESTORE_TIMEOUT
        sandbox.timer = asyncio.get_running_loop().call_later(seconds, sandbox.end, cause)
        return True

    def _blank_for(self, function: HostedFunction, parent: PreparedParent) -> tuple[Sandbox, Seat] | None:
        """A blank sandbox, of the function's template if it has one; None: no seat is free. OSError: cannot be made."""
        sandbox = self.snapshots.take(function)
        if sandbox is not None and isinstance(sandbox.parent, TemplateFork):
            return sandbox, sandbox.parent.seat
        seat = self._seats.take(function)
        if seat is None:
            return None
        try:
            return self._spares.take(parent), seat
        except OSError:
            self._seats.give_back(seat)
            raise

    def drop_seats(self, function: HostedFunction) -> None:
        """Nothing of this function crashed lately: forget the /tmp folders kept for it."""
        self._seats.drop(function)

    def start(self) -> None:
        """Have blank sandboxes at hand, and look after those that run."""
        for parent in self._parents.all():
            if parent.is_up:
                self._spares.prepare(parent)
        self._watch.start()

    @property
    def spare(self) -> int:
        """Blank sandboxes at hand."""
        return self._spares.count

    async def stop(self) -> None:
        """End every sandbox."""
        self._stopping = True
        await self._watch.stop()
        await self._spares.stop()
        for sandbox in list(self.sandboxes.values()):
            sandbox.end("stopped")
        if self.sandboxes:
            self._empty.clear()
            await self._empty.wait()
        await self.snapshots.stop()

    # --- what a sandbox tells; Sandbox.Owner

    def on_ready(self, sandbox: Sandbox, ready: frames.Ready) -> None:
        """The handler is loaded: from here on the dispatcher has it."""
        sandbox.init_ended_ns = self._clock.wall_ns()
        sandbox.init_us = max(1, (sandbox.init_ended_ns - sandbox.init_started_ns) // 1_000)
        sandbox.max_rss_kb = ready.max_rss_kb
        if sandbox.is_restored:
            sandbox.function.log.append(log_lines.restore_report(sandbox.init_us))
        self._is_started(sandbox)
        self._keeper.on_idle(sandbox)

    def on_start_failed(self, sandbox: Sandbox, kind: int, failure: frames.Failure) -> None:
        """Its own words for why; the process ends itself."""
        if kind != frames.INIT_ERROR or sandbox.function is None:
            name = sandbox.function.key[1] if sandbox.function is not None else ""
            text = failure.error_message.decode(errors="replace")
            log.error("a sandbox cannot be made: %s", text, extra={"function_name": name})
        if sandbox.function is not None:
            self._start_failures.told(sandbox, kind, failure)
            sandbox.end("start failed")

    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None:
        """See Keeper."""
        sandbox.max_rss_kb = result.max_rss_kb
        self._keeper.on_result(sandbox, result)

    def on_output(self, sandbox: Sandbox, data: bytes) -> None:
        """See Keeper. A blank sandbox has nothing to say to anybody's log."""
        if sandbox.function is not None:
            self._keeper.on_output(sandbox, data)

    def on_ending(self, sandbox: Sandbox) -> None:
        """No further run: its room comes free in a moment."""
        if sandbox.number in self.sandboxes:
            self.census.ends(sandbox)
            self._keeper.on_ending(sandbox)

    def on_gone(self, sandbox: Sandbox, status: int) -> None:
        """All of it is dead: its seat goes to its replacement after a crash, else back."""
        function: HostedFunction | None = sandbox.function
        ran_out = self._blanks.give_back(sandbox)
        if function is None:
            if isinstance(sandbox.parent, TemplateFork):
                sandbox.parent.free()
            self._spares.on_gone(sandbox)
            self.snapshots.at_hand.on_gone(sandbox)
            return
        if ran_out and sandbox.end_cause in ("", "crashed"):
            sandbox.end_cause = watch.MEMORY
        was_ready = sandbox.init_ended_ns > 0
        if not was_ready:
            self._is_started(sandbox)
        del self.sandboxes[sandbox.number]
        self.census.gone(sandbox)
        self._vacate(sandbox, function)
        if not self.sandboxes:
            self._empty.set()
        if was_ready:
            self._keeper.on_gone(sandbox, status)
        elif sandbox.end_cause != "stopped":
            fault = self._start_failures.fault_of(sandbox, status)
            if fault is not None:
                self._keeper.on_start_unavailable(function, fault)
            else:
                self._keeper.on_start_lost(sandbox, self._start_failures.outcome_of(sandbox, status))

    def _vacate(self, sandbox: Sandbox, function: HostedFunction) -> None:
        if isinstance(sandbox.parent, TemplateFork):
            # The seat is the template's, and every fork begins with an empty /tmp.
            sandbox.parent.free()
        elif sandbox.end_cause in CRASHES and sandbox.code_key == function.code_key and not self._stopping:
            self._seats.keep(function, sandbox.seat)
        else:
            self._seats.give_back(sandbox.seat)

    def _is_started(self, sandbox: Sandbox) -> None:
        if sandbox.timer is not None:
            sandbox.timer.cancel()
            sandbox.timer = None
        self.census.started(sandbox)
        if not self.census.starting:
            self._spares.refill_soon()

    def _take_for_template(self, parent: PreparedParent, function: HostedFunction) -> Sandbox:
        sandbox = self._spares.take(parent)
        self._blanks.limit(sandbox, function.version.memory_mb)
        return sandbox

    def _request(self, function: HostedFunction, sandbox: Sandbox, seat: Seat) -> dict[str, Any]:
        environments = self._environments
        return fork_request(self._settings, self._isolation, function, environments, sandbox.sandbox_id, seat)

    def _living(self) -> list[Sandbox]:
        return [*self.sandboxes.values(), *self.snapshots.sandboxes()]
