"""The supervisor of `evenflow up`: starts a fleet, watches it, drains it in the order in which events flow."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from cli import fleet_file
from cli.failures import CliError
from cli.fleet_file import FleetFile, NodeEntry
from cli.fleet_folder import FleetLock, make_run_folder, prepare_data, prepare_token, remove_run_folder
from cli.supervisor.child import Child
from cli.supervisor.options import UpOptions
from cli.supervisor.plan import DRAIN_ORDER, plan
from cli.supervisor.ports import check_free
from cli.supervisor.readiness import Readiness
from services.shared.channels import read_token
from services.shared.lifecycle import die_with_parent

READY_WITHIN_SECONDS = 60.0
READY_POLL_SECONDS = 0.02
# After SIGTERM everything is gone within this time, whatever hangs; each later stage is left its part of it.
STOP_WITHIN_SECONDS = 9.0
STAGE_RESERVE_SECONDS = 0.8
HURRIED_SECONDS = 1.0
ROTATE_EVERY_SECONDS = 1.0
SAVE_DELAY_SECONDS = 0.02


def run_fleet(options: UpOptions, on_ready: Callable[[FleetFile], None] | None = None) -> None:
    """Run a fleet in the foreground until SIGINT or SIGTERM. CliError: it cannot start, with the reason in one line."""
    started = time.monotonic()
    # Only where whoever started us asked for it: a demo or a test that is killed leaves no fleet behind.
    die_with_parent()
    prepare_data(options.data)
    lock = FleetLock(options.data)
    lock.acquire(say=_say)
    try:
        stale = fleet_file.read(options.data)
        if stale is not None:
            remove_run_folder(Path(stale.run_dir))
            fleet_file.remove(options.data)
        check_free(options.http_listen, "--http-port")
        check_free(options.grpc_listen, "--grpc-port")
        run_dir = make_run_folder()
        try:
            asyncio.run(Supervisor(options, run_dir, lock.fd, started, on_ready).run())
        finally:
            fleet_file.remove(options.data)
            remove_run_folder(run_dir)
    finally:
        lock.release()


class Supervisor:
    """One run of a fleet."""

    def __init__(
        self,
        options: UpOptions,
        run_dir: Path,
        lock_fd: int,
        started: float,
        on_ready: Callable[[FleetFile], None] | None = None,
    ) -> None:
        token_file = prepare_token(options.data)
        self._options = options
        self._started = started
        self._on_ready = on_ready
        self._run_dir = run_dir
        self._token_file = token_file
        self._is_ready = False
        self._failure: CliError | None = None
        self._stop_asked = asyncio.Event()
        self._hurry_asked = asyncio.Event()
        self._saving: asyncio.TimerHandle | None = None
        self._plans = plan(options, run_dir, token_file, os.getpid())
        self._children = [
            Child(
                node,
                options.data / "logs",
                lock_fd,
                say=_say,
                on_change=partial(self._changed, node.node_id),
                on_hopeless=self._give_up,
            )
            for node in self._plans
        ]
        self._readiness: Readiness | None = None

    async def run(self) -> None:
        """Start, serve, drain. CliError: a service cannot start."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._asked_to_stop)
        self._readiness = Readiness(self._plans, read_token(str(self._token_file)))
        rotating = asyncio.create_task(self._rotate(), name="rotate logs")
        try:
            for child in self._children:
                child.start()
            if await self._until_ready():
                self._is_ready = True
                self._save()
                self._announce()
                await self._stop_asked.wait()
                _say("stopping")
        finally:
            await self._drain()
            rotating.cancel()
            await asyncio.gather(rotating, return_exceptions=True)
            await self._readiness.close()
            if self._saving is not None:
                self._saving.cancel()
        if self._failure is not None:
            raise self._failure

    # --- start

    async def _until_ready(self) -> bool:
        assert self._readiness is not None
        deadline = self._started + READY_WITHIN_SECONDS
        while not self._stop_asked.is_set():
            missing = await self._readiness.missing()
            if not missing:
                return not self._stop_asked.is_set()
            if time.monotonic() > deadline:
                logs = self._options.data / "logs"
                self._failure = CliError(f"not ready within {READY_WITHIN_SECONDS:.0f} s: {missing}; see {logs}")
                return False
            try:
                await asyncio.wait_for(self._stop_asked.wait(), READY_POLL_SECONDS)
            except TimeoutError:
                continue
        return False

    def _announce(self) -> None:
        for child in self._children:
            child.has_served = True
        fleet = self._fleet_file()
        data = os.path.relpath(self._options.data)
        shown = data if not data.startswith("..") else str(self._options.data)
        took = time.monotonic() - self._started
        assert self._readiness is not None
        for words in sorted(set(self._readiness.isolation.values())):
            _say(f"sandboxes: {words}")
        _say(f"ready {fleet.http} grpc {fleet.grpc} data {shown} ({took:.1f} s)", sys.stdout)
        if self._on_ready is not None:
            self._on_ready(fleet)

    def _give_up(self, node_id: str, words: str) -> None:
        if self._failure is None:
            self._failure = CliError(f"{node_id} cannot start: {words}")
        self._stop_asked.set()

    # --- state for the other commands

    def _changed(self, node_id: str) -> None:
        if self._readiness is not None:
            self._readiness.forget(node_id)
        # Several processes start in one turn of the loop: one write tells of them all.
        if self._saving is None:
            self._saving = asyncio.get_running_loop().call_later(SAVE_DELAY_SECONDS, self._save)

    def _save(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        try:
            self._fleet_file().write(self._options.data)
        except OSError as e:
            _say(f"{fleet_file.FILE_NAME} cannot be written: {e.strerror}")

    def _fleet_file(self) -> FleetFile:
        nodes = {
            child.plan.node_id: NodeEntry(child.plan.role, child.pid, child.plan.target, child.plan.metrics_socket)
            for child in self._children
        }
        return FleetFile(
            pid=os.getpid(),
            started_ticks=fleet_file.started_ticks(os.getpid()),
            http=f"http://{_reachable(self._options.http_listen)}",
            grpc=_reachable(self._options.grpc_listen),
            data_dir=str(self._options.data),
            run_dir=str(self._run_dir),
            token_file=str(self._token_file),
            ready=self._is_ready,
            nodes=nodes,
        )

    # --- end

    def _asked_to_stop(self) -> None:
        if self._stop_asked.is_set():
            self._hurry_asked.set()
        self._stop_asked.set()

    async def _drain(self) -> None:
        draining = asyncio.create_task(self._drain_in_order(), name="drain")
        hurry = asyncio.create_task(self._hurry_asked.wait(), name="hurry")
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not draining.done():
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
            await asyncio.gather(*(child.stop(HURRIED_SECONDS) for child in self._children))

    async def _drain_in_order(self) -> None:
        end = time.monotonic() + STOP_WITHIN_SECONDS
        for index, role in enumerate(DRAIN_ORDER):
            left = end - time.monotonic() - STAGE_RESERVE_SECONDS * (len(DRAIN_ORDER) - 1 - index)
            stage = [child for child in self._children if child.plan.role == role]
            went = await asyncio.gather(*(child.stop(max(0.1, left)) for child in stage))
            for child, by_itself in zip(stage, went, strict=True):
                if not by_itself:
                    _say(f"{child.plan.node_id} did not end in time and was killed")

    async def _rotate(self) -> None:
        while True:
            await asyncio.sleep(ROTATE_EVERY_SECONDS)
            for child in self._children:
                child.log.rotate_if_full()


def _reachable(listen: str) -> str:
    host, _, port = listen.rpartition(":")
    return f"{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"


def _say(text: str, stream: TextIO | None = None) -> None:
    try:
        print(text, file=stream or sys.stderr, flush=True)
    except OSError:
        # The terminal is gone; the fleet has to be drained all the same.
        return
