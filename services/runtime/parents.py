"""The host's end of a prepared parent: started, asked to fork and to kill, replaced when it ends."""

import asyncio
import json
import logging
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from services.runtime.runtimes import Interpreter
from services.runtime.sandbox import hooks
from services.runtime.sandbox import parent as parent_end

READY_SECONDS = 30.0
STOP_SECONDS = 3.0
# What boto3 imports from outside of itself, some of it late.
BOTO3_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
RUNTIME_PACKAGES = (*BOTO3_PACKAGES, hooks.PACKAGE)
_START = (
    "import importlib.util as u, sys; "
    "s = u.spec_from_file_location('evenflow_sandbox', sys.argv[1] + '/__init__.py', "
    "submodule_search_locations=[sys.argv[1]]); "
    "m = u.module_from_spec(s); sys.modules['evenflow_sandbox'] = m; s.loader.exec_module(m); "
    "from evenflow_sandbox.parent import main; main()"
)
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": ":UTC"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a parent is told of the host: user and cgroups to try, the folder that holds what functions bring."""

    probe_uid: int
    probe_cgroups: tuple[str, ...]
    folder: str


@dataclass(slots=True, eq=False)
class Fork:
    """One sandbox's process as the parent tells of it."""

    on_pid: Callable[[int], None]
    on_exit: Callable[[int], None]
    pid: int = field(default=0)


class PreparedParent:
    """One parent process, of this Python.

    reads: folders that its sandboxes see and read besides the Python's own. on_lost: it ended unasked or had to be
    killed; its sandboxes die with it, and what they had started is to be found and ended by whoever adopts orphans
    here. keep_fds: stay open in it as long as anything of it lives.
    """

    def __init__(
        self,
        name: str,
        interpreter: Interpreter,
        preload: tuple[str, ...],
        reads: tuple[str, ...],
        surroundings: Surroundings,
        on_lost: Callable[[], None],
        keep_fds: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        # What it found that this machine allows; see sandbox/probe.py.
        self.found: dict[str, Any] = {}
        # How it shuts sandboxes in; set before the first is asked for.
        self.isolation: Mapping[str, Any] = {}
        self.pid = 0
        self._interpreter = interpreter
        self._preload = preload
        self._reads = reads
        self._surroundings = surroundings
        self._keep_fds = keep_fds
        self._on_lost = on_lost
        self._forks: dict[int, Fork] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] | None = None
        self._stopping = False

    @property
    def is_up(self) -> bool:
        """Whether it can fork now."""
        ready = self._ready
        return self._control is not None and ready is not None and ready.done() and not ready.cancelled()

    async def ensure(self) -> None:
        """Have it running; by the first who needs it. OSError: it does not start."""
        if self.is_up:
            return
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name=f"parent {self.name}")
            self._starting.add_done_callback(self._started)
        await asyncio.shield(self._starting)

    def prepare(self, isolation: Mapping[str, Any]) -> None:
        """Tell it how sandboxes are shut in, now and after every start. OSError: it is down."""
        self.isolation = isolation
        if self._control is not None:
            self._control.send(json.dumps({"do": "prepare", "isolation": isolation}).encode())

    def fork(self, sandbox_id: int, cgroups: Sequence[str], channel: socket.socket, output_fd: int, fork: Fork) -> None:
        """Ask for a sandbox; both descriptors are the child's ends, for the caller to close. OSError: it is down."""
        if self._control is None:
            raise ConnectionError("the prepared parent is down")
        packet = json.dumps({"do": "fork", "id": sandbox_id, "cgroups": cgroups}).encode()
        socket.send_fds(self._control, [packet], [channel.fileno(), output_fd])
        self._forks[sandbox_id] = fork

    def make_view(self, sandbox_id: int, tmp: str, reply: socket.socket) -> None:
        """Ask for mounts for a fork of this template, answered through `reply`; see sandbox/fork_view.py.

        The caller closes `reply`. OSError: it is down.
        """
        if self._control is None:
            raise ConnectionError("the prepared parent is down")
        packet = json.dumps({"do": "view", "id": sandbox_id, "tmp": tmp}).encode()
        socket.send_fds(self._control, [packet], [reply.fileno()])

    def signal(self, sandbox_id: int, signum: int) -> None:
        """Signal a sandbox and all it started; after SIGKILL its on_exit follows."""
        if self._control is not None and sandbox_id in self._forks:
            try:
                self._control.send(json.dumps({"do": "signal", "id": sandbox_id, "signal": signum}).encode())
            except BlockingIOError:
                asyncio.get_running_loop().call_later(0.001, self.signal, sandbox_id, signum)
            except OSError:
                self._lost()

    async def stop(self) -> None:
        """End it and everything below it; none of it is left after that."""
        self._stopping = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        process = self._process
        if process is None:
            return
        self._close_control()
        # The parent kills its sandboxes on the end of its socket.
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            self._on_lost()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        folder = str(Path(parent_end.__file__).parent)
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - a few ms, at start or after a crash
                [self._interpreter.executable, "-I", "-S", "-X", "utf8", "-c", _START, folder, str(theirs.fileno())],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *self._keep_fds),
                start_new_session=True,
                cwd="/",
            )
        self.pid = self._process.pid
        self._control = ours
        self._ready = loop.create_future()
        ours.send(json.dumps(self._configuration()).encode())
        loop.add_reader(ours, self._readable)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._ready
        except TimeoutError:
            self._process.kill()
            raise ConnectionError(f"the prepared parent was not ready within {READY_SECONDS:.0f} s") from None

    def _started(self, task: asyncio.Task[None]) -> None:
        self._starting = None
        if not task.cancelled() and task.exception() is not None:
            log.error("the prepared parent %s does not start: %s", self.name, task.exception())

    def _configuration(self) -> dict[str, Any]:
        spec = find_spec("boto3")
        roots = {*self._interpreter.roots, *self._reads}
        packages_folder = ""
        if spec is not None and spec.origin is not None:
            packages_folder = str(Path(spec.origin).parent.parent)
            roots.add(packages_folder)
        real = sorted({os.path.realpath(path) for path in roots} | roots)
        needed = [p for p in real if not any(p != other and p.startswith(other.rstrip("/") + "/") for other in real)]
        return {
            "preload": self._preload,
            "packages_folder": packages_folder,
            "packages": RUNTIME_PACKAGES,
            "needed": [p for p in needed if p not in ("/", "/usr") and os.path.isdir(p)],
            "probe_uid": self._surroundings.probe_uid,
            "probe_cgroups": self._surroundings.probe_cgroups,
            "folder": self._surroundings.folder,
        }

    def _readable(self) -> None:
        assert self._control is not None
        while self._control is not None:
            try:
                packet = self._control.recv(parent_end.MAX_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lost()
                return
            self._take(json.loads(packet))

    def _take(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self.found = message["ready"]
            log.info(
                "prepared parent %s is ready after %.0f ms with %s",
                self.name,
                message["seconds"] * 1_000,
                ", ".join(message["loaded"]) or "nothing preloaded",
            )
            if self.isolation:
                # Before it counts as up, so that nobody asks for a sandbox first.
                self.prepare(self.isolation)
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(None)
        elif "forked" in message:
            fork = self._forks.get(message["forked"])
            if fork is not None:
                fork.pid = message["pid"]
                fork.on_pid(message["pid"])
        elif "exited" in message:
            fork = self._forks.pop(message["exited"], None)
            if not message.get("clean", True):
                log.error("processes of a dead sandbox would not die")
            if fork is not None:
                fork.on_exit(message["status"])

    def _lost(self) -> None:
        self._close_control()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ConnectionError("the prepared parent ended while it started"))
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
        if not self._stopping:
            log.warning("the prepared parent %s ended; its sandboxes are replaced", self.name)
        self._on_lost()
        forks, self._forks = self._forks, {}
        for fork in forks.values():
            fork.on_exit(-1)

    def _close_control(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
