"""Makes sandboxes: package, prepared parent, seat, fork, handler loaded; and accounts for every one that lives."""

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from evenflow.common.v1 import event_pb2

from services.runtime import log_lines, runs
from services.runtime.functions import OWN_RUNTIME, HostedFunction, environment_of
from services.runtime.packages import PackageStore
from services.runtime.parents import BOTO3_PACKAGES, PreparedParent
from services.runtime.sandbox import frames
from services.runtime.sandboxes import Sandbox
from services.runtime.seats import Seat, Seats
from services.runtime.settings import RuntimeSettings
from services.runtime.telemetry import Telemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason
from services.shared.follower import ConfigView

RETRY_AFTER_MS = 1_000
# /tmp folders kept after crashes, over all functions: each holds one of the host's seats.
MAX_KEPT_SEATS = 256
# AWS: a crash or a time-out resets the sandbox but keeps its /tmp.
_KEEPS_TMP = ("crashed", "timeout", "init timeout", "broke protocol", "")
log = logging.getLogger(__name__)


class Keeper(Protocol):
    """Who gets the sandboxes that are ready; the dispatcher."""

    def on_idle(self, sandbox: Sandbox) -> None: ...
    def on_start_lost(self, sandbox: Sandbox, outcome: event_pb2.Outcome) -> None: ...
    def on_start_unavailable(self, function: HostedFunction, error: EvenflowError) -> None: ...
    def on_code_unavailable(self, function: HostedFunction, error: EvenflowError) -> None: ...
    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None: ...
    def on_output(self, sandbox: Sandbox, data: bytes) -> None: ...
    def on_gone(self, sandbox: Sandbox, status: int) -> None: ...
    def on_prepared(self, function: HostedFunction) -> None: ...


class Nursery:
    """Owns all sandboxes of the host from the fork to the end of the process."""

    def __init__(
        self,
        settings: RuntimeSettings,
        keeper: Keeper,
        packages: PackageStore,
        parents: dict[bool, PreparedParent],
        seats: Seats,
        telemetry: Telemetry,
        clock: Clock,
        view: Callable[[], ConfigView],
    ) -> None:
        self.sandboxes: dict[int, Sandbox] = {}
        self.starting = 0
        # Of all sandboxes until they are gone; of those that were told to end; of those that are kept ready.
        self.memory_mb = 0
        self.ending = 0
        self.ending_mb = 0
        self.provisioned = 0
        self.provisioned_mb = 0
        self._settings = settings
        self._keeper = keeper
        self._packages = packages
        self._parents = parents
        self._seats = seats
        self._telemetry = telemetry
        self._clock = clock
        self._view = view
        self._last_number = 0
        self._stopping = False
        self._empty = asyncio.Event()
        # Of starts that failed and are not gone yet: the handler's fault, and the machine's.
        self._failures: dict[int, event_pb2.Outcome] = {}
        self._faults: dict[int, EvenflowError] = {}
        # By seat, the one that was kept longest first.
        self._kept: OrderedDict[int, HostedFunction] = OrderedDict()
        self._masks = [os.path.realpath(path) for path in (settings.data_dir, settings.run_dir)]

    @property
    def count(self) -> int:
        """Sandboxes that exist, those on their way in or out included."""
        return len(self.sandboxes)

    def is_prepared(self, function: HostedFunction) -> bool:
        """Whether its code and a parent are there; if not, they are being made ready: on_prepared follows."""
        parent = self._parent_of(function)
        if function.package is not None and parent is not None and parent.is_up:
            return True
        if function.preparing is None and not self._stopping:
            function.preparing = asyncio.create_task(self._prepare(function), name="prepare")
        return False

    def begin(self, function: HostedFunction, *, is_provisioned: bool = False) -> bool:
        """Begin a cold start of a function that is prepared; False: no seat is free, or the host stops.

        EvenflowError: UNAVAILABLE, another try may do; INVALID_PARAMETER, none will.
        """
        parent = self._parent_of(function)
        if self._stopping or parent is None:
            return False
        seat = self._take_seat(function)
        if seat is None:
            return False
        self._last_number += 1
        sandbox = Sandbox(self._last_number, self._settings.node_id, self, parent, function, seat)
        sandbox.is_provisioned = is_provisioned
        try:
            request = self._request(function, sandbox, parent, seat)
            if is_provisioned:
                request["environment"]["AWS_LAMBDA_INITIALIZATION_TYPE"] = "provisioned-concurrency"
            sandbox.init_started_ns = self._clock.wall_ns()
            sandbox.start(request)
        except (OSError, ValueError) as e:
            self._seats.give_back(seat)
            may_pass = isinstance(e, OSError)
            reason = Reason.ERROR_REASON_UNAVAILABLE if may_pass else Reason.ERROR_REASON_INVALID_PARAMETER
            raise EvenflowError(reason, f"a sandbox cannot be started: {e}", RETRY_AFTER_MS if may_pass else 0) from e
        self.sandboxes[sandbox.number] = sandbox
        self._empty.clear()
        self._count(sandbox)
        self._telemetry.started(*function.key)
        function.log.append(log_lines.init_start(OWN_RUNTIME.replace("python", "python:"), "evenflow"))
        sandbox.timer = asyncio.get_running_loop().call_later(self._settings.init_seconds, sandbox.end, "init timeout")
        return True

    def drop_seats(self, function: HostedFunction) -> None:
        """Nothing of this function crashed lately: forget the /tmp folders kept for it."""
        while function.kept_seats:
            seat = function.kept_seats.pop()
            del self._kept[seat.number]
            self._seats.give_back(seat)

    async def stop(self) -> None:
        """End every sandbox."""
        self._stopping = True
        for sandbox in list(self.sandboxes.values()):
            sandbox.end("stopped")
        if self.sandboxes:
            self._empty.clear()
            await self._empty.wait()

    # --- what a sandbox tells; Sandbox.Owner

    def on_ready(self, sandbox: Sandbox, ready: frames.Ready) -> None:
        """The handler is loaded: from here on the dispatcher has it."""
        sandbox.init_ended_ns = self._clock.wall_ns()
        sandbox.init_us = max(1, (sandbox.init_ended_ns - sandbox.init_started_ns) // 1_000)
        sandbox.max_rss_kb = ready.max_rss_kb
        self._is_started(sandbox)
        self._keeper.on_idle(sandbox)

    def on_start_failed(self, sandbox: Sandbox, kind: int, failure: frames.Failure) -> None:
        """Its own words for why; the process ends itself."""
        error_type, message = (
            failure.error_type.decode(errors="replace"),
            failure.error_message.decode(errors="replace"),
        )
        if kind == frames.INIT_ERROR:
            self._failures[sandbox.number] = runs.of_failure(
                error_type, message, failure.payload, version="$LATEST", sandbox_id=sandbox.sandbox_id
            )
        else:
            log.error("a sandbox cannot be made: %s", message, extra={"function_name": sandbox.function.key[1]})
            self._faults[sandbox.number] = EvenflowError(
                Reason.ERROR_REASON_INTERNAL, f"a sandbox cannot be made: {message}", RETRY_AFTER_MS
            )
        sandbox.end("start failed")

    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None:
        """See Keeper."""
        sandbox.max_rss_kb = result.max_rss_kb
        self._keeper.on_result(sandbox, result)

    def on_output(self, sandbox: Sandbox, data: bytes) -> None:
        """See Keeper."""
        self._keeper.on_output(sandbox, data)

    def on_ending(self, sandbox: Sandbox) -> None:
        """Its room comes free in a moment."""
        self.ending += 1
        self.ending_mb += sandbox.memory_mb

    def on_gone(self, sandbox: Sandbox, status: int) -> None:
        """All of it is dead: its seat goes to its replacement after a crash, else back."""
        function: HostedFunction = sandbox.function
        was_ready = sandbox.init_ended_ns > 0
        if not was_ready:
            self._is_started(sandbox)
        del self.sandboxes[sandbox.number]
        self._count_gone(sandbox)
        if sandbox.end_cause in _KEEPS_TMP and not self._stopping:
            self._keep_seat(function, sandbox.seat)
        else:
            self._seats.give_back(sandbox.seat)
        if not self.sandboxes:
            self._empty.set()
        if was_ready:
            self._keeper.on_gone(sandbox, status)
        elif sandbox.end_cause != "stopped":
            fault = self._fault_of(sandbox, status)
            if fault is not None:
                self._keeper.on_start_unavailable(function, fault)
            else:
                self._keeper.on_start_lost(sandbox, self._failure_of(sandbox, status))

    def _fault_of(self, sandbox: Sandbox, status: int) -> EvenflowError | None:
        """Why the start failed when that says nothing about the function: another try may do."""
        known = self._faults.pop(sandbox.number, None)
        if known is not None or status >= 0 or sandbox.end_cause == "init timeout" or sandbox.number in self._failures:
            return known
        text = "a sandbox cannot be started: its parent could not fork, or ended"
        return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text, RETRY_AFTER_MS)

    def _failure_of(self, sandbox: Sandbox, status: int) -> event_pb2.Outcome:
        known = self._failures.pop(sandbox.number, None)
        if known is not None:
            return known
        if sandbox.end_cause == "init timeout":
            error_type, text = "Sandbox.Timedout", log_lines.timed_out_text(self._settings.init_seconds)
        else:
            error_type, text = "Runtime.ExitError", log_lines.exit_text(status)
        sandbox.function.log.append(f"{text}\n{error_type}\n".encode())
        return runs.of_failure(error_type, text, b"", version="$LATEST", sandbox_id=sandbox.sandbox_id)

    def _is_started(self, sandbox: Sandbox) -> None:
        if sandbox.timer is not None:
            sandbox.timer.cancel()
            sandbox.timer = None
        self.starting -= 1
        if sandbox.is_provisioned:
            sandbox.function.provisioned.starting -= 1
        else:
            sandbox.function.starting -= 1

    def _count(self, sandbox: Sandbox) -> None:
        self.starting += 1
        self.memory_mb += sandbox.memory_mb
        if sandbox.is_provisioned:
            sandbox.function.provisioned.starting += 1
            self.provisioned += 1
            self.provisioned_mb += sandbox.memory_mb
        else:
            sandbox.function.starting += 1

    def demote(self, sandbox: Sandbox) -> None:
        """It is kept ready no more; it ends after its run."""
        sandbox.is_provisioned = False
        self.provisioned -= 1
        self.provisioned_mb -= sandbox.memory_mb

    def _count_gone(self, sandbox: Sandbox) -> None:
        self.memory_mb -= sandbox.memory_mb
        if sandbox.end_cause:
            self.ending -= 1
            self.ending_mb -= sandbox.memory_mb
        if sandbox.is_provisioned:
            self.provisioned -= 1
            self.provisioned_mb -= sandbox.memory_mb

    # --- seats

    def _take_seat(self, function: HostedFunction) -> Seat | None:
        if not function.kept_seats:
            return self._seats.take()
        seat = function.kept_seats.pop()
        del self._kept[seat.number]
        return seat

    def _keep_seat(self, function: HostedFunction, seat: Seat) -> None:
        function.kept_seats.append(seat)
        self._kept[seat.number] = function
        if len(self._kept) > MAX_KEPT_SEATS:
            number, oldest = self._kept.popitem(last=False)
            given_up = next(one for one in oldest.kept_seats if one.number == number)
            oldest.kept_seats.remove(given_up)
            self._seats.give_back(given_up)

    # --- before the fork

    def _parent_of(self, function: HostedFunction) -> PreparedParent | None:
        if function.package is None:
            return None
        brings_own = not function.package.top_names.isdisjoint(BOTO3_PACKAGES)
        return self._parents[brings_own]

    async def _prepare(self, function: HostedFunction) -> None:
        try:
            try:
                package = await self._packages.get(function.version.code_sha256)
                function.package = package
                parent = self._parent_of(function)
                assert parent is not None
                await parent.ensure()
            finally:
                function.preparing = None
        except EvenflowError as e:
            self._keeper.on_code_unavailable(function, e)
        except OSError as e:
            self._keeper.on_start_unavailable(
                function,
                EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, f"sandboxes cannot be started: {e}", RETRY_AFTER_MS),
            )
        else:
            self._keeper.on_prepared(function)

    def _request(
        self, function: HostedFunction, sandbox: Sandbox, parent: PreparedParent, seat: Seat
    ) -> dict[str, Any]:
        assert function.package is not None
        settings = self._settings
        by_itself = settings.isolation == "0"
        buckets = []
        for grant in function.version.buckets:
            path = Path(os.path.realpath(settings.data_dir)) / "buckets" / grant.bucket
            self._open_bucket(path, seat.uid is not None)
            buckets.append([grant.bucket, str(path), grant.writable])
        return {
            "handler": function.version.handler,
            "environment": environment_of(function.function, self._view().fleet, sandbox.sandbox_id),
            "code": os.path.realpath(function.package.code_dir),
            "tmp": os.path.realpath(seat.tmp_dir),
            "buckets": buckets,
            "masks": self._masks,
            "uid": seat.uid,
            "namespaces": "" if by_itself else parent.abilities.namespaces,
            "limits": {
                "nofile": settings.max_files,
                "nproc": settings.max_processes,
                "fsize": settings.max_file_bytes,
            },
        }

    @staticmethod
    def _open_bucket(path: Path, for_others: bool) -> None:
        path.mkdir(parents=True, exist_ok=True)
        if for_others and path.stat().st_mode & 0o777 != 0o777:
            # Sandboxes of many uids write here; the folder above is the fleet's own and closed to other users.
            path.chmod(0o777)
