"""The prepared parent: a clean, single-threaded process that imported what handlers need and forks sandboxes.

The host talks to it over one SOCK_SEQPACKET socket: a JSON object a packet, descriptors beside it. It ends, with every
sandbox and whatever they started, when that socket closes.
"""

import array
import gc
import importlib
import importlib.machinery
import json
import os
import select
import signal
import site
import socket
import sys
import time
from typing import Any, NoReturn

from . import fork_view, linux, namespaces, seccomp, snapshot, strays
from .child import Plan, become_sandbox
from .probe import probe

MAX_PACKET_BYTES = 131_072
_POLL_MS = 1_000


class Fork:
    """A sandbox's process, and the init of its PID namespace where it has one (else 0); `living` are not reaped yet."""

    def __init__(self, sandbox_id: int, pid: int, init_pid: int) -> None:
        self.sandbox_id = sandbox_id
        self.pid = pid
        self.init_pid = init_pid
        self.living = {pid, init_pid} - {0}
        self.status = 0


class Parent:
    """Forks on request, reaps, signals; says so to the host."""

    def __init__(self, control: socket.socket, needed: "list[str]") -> None:
        self._control = control
        self._needed = needed
        # By their own pids and by those of their inits; a process that is none of these was left by a dead one.
        self._forks: dict[int, Fork] = {}
        self._fork_of_sandbox: dict[int, Fork] = {}
        # Processes that make mounts for a template's fork, and end.
        self._views: set[int] = set()
        self._plan = Plan({}, b"", os.getpid())
        self._pid_namespaces: namespaces.PidNamespaces | None = None

    def run(self) -> None:
        """Serve until the host is gone."""
        wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wakeup_read, select.POLLIN)
        while True:
            for fd, _ in poll.poll(_POLL_MS):
                if fd == wakeup_read:
                    try:
                        os.read(wakeup_read, 4_096)
                    except BlockingIOError:
                        pass
                elif not self._serve_one():
                    return
            self._reap()

    def prepare(self, isolation: "dict[str, Any]") -> None:
        """How every sandbox from now on is shut in; once.

        "namespaces": list; "by_user_namespace", "has_uid", "has_seccomp", "has_network", "counts_memory": bool;
        "landlock": version, 0 for none; "hides": the fleet's folders; "folder": what holds code, /tmp, buckets.
        """
        wanted = isolation["namespaces"]
        if isolation["by_user_namespace"]:
            namespaces.enter_user_namespace()
        elif namespaces.PID in wanted:
            self._pid_namespaces = namespaces.PidNamespaces()
        program = template_program = b""
        if isolation["has_seccomp"]:
            unknown: tuple[str, ...] = () if isolation["counts_memory"] else seccomp.UNCOUNTED_MEMORY
            if namespaces.IPC not in wanted:
                unknown += seccomp.UNOWNED_IPC
            has_network = isolation["has_network"] or namespaces.NETWORK in wanted
            program = seccomp.program(linux.machine(), has_network, unknown)
            but = (snapshot.CALL_OF_TEMPLATE,)
            template_program = seccomp.program(linux.machine(), has_network, unknown, but)
        self._plan = Plan({**isolation, "needed": self._needed}, program, os.getpid(), template_program)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)

    def _serve_one(self) -> bool:
        data, ancillary, _, _ = self._control.recvmsg(MAX_PACKET_BYTES, socket.CMSG_SPACE(16))
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        if not data:
            return False
        request = json.loads(data)
        if request["do"] == "fork":
            self._fork(request, *fds)
        elif request["do"] == "signal":
            self._signal(request["id"], request["signal"])
        elif request["do"] == "view":
            self._make_view(request, *fds)
        elif request["do"] == "prepare":
            self.prepare(request["isolation"])
        return True

    def _fork(self, request: "dict[str, Any]", channel_fd: int, output_fd: int) -> None:
        init_pid = 0
        try:
            if self._pid_namespaces is not None:
                pid, init_pid = self._pid_namespaces.fork()
            else:
                pid = os.fork()
        except OSError as e:
            self._tell({"exited": request["id"], "status": -1, "error": str(e)})
            pid = -1
        if pid == 0:
            become_sandbox(self._plan, request["cgroups"], channel_fd, output_fd)
        os.close(channel_fd)
        os.close(output_fd)
        if pid > 0:
            fork = self._fork_of_sandbox[request["id"]] = Fork(request["id"], pid, init_pid)
            self._forks.update(dict.fromkeys(fork.living, fork))
            self._tell({"forked": request["id"], "pid": pid})

    def _make_view(self, request: "dict[str, Any]", reply_fd: int) -> None:
        """Mounts for a fork of the template that is sandbox "id", with the folder "tmp" as its /tmp."""
        with socket.socket(fileno=reply_fd) as reply:
            template = self._fork_of_sandbox.get(request["id"])
            if template is None or template.pid not in template.living:
                # The host sees the end of `reply`, if it still looks.
                return
            try:
                pid = os.fork()
            except OSError:
                return
            if pid == 0:
                try:
                    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
                    fork_view.make(template.pid, request["tmp"], self._needed, reply)
                finally:
                    os._exit(0)
            self._views.add(pid)

    def _signal(self, sandbox_id: int, signum: int) -> None:
        """SIGKILL for the sandbox, whose end takes the rest along; anything milder for all that it started, too."""
        fork = self._fork_of_sandbox.get(sandbox_id)
        if fork is None or fork.pid not in fork.living:
            return
        # Not reaped yet, so the pid is still its; those below it may end meanwhile.
        below = [one for pid in fork.living for one in strays.descendants_of(pid)] if signum != signal.SIGKILL else []
        for one in [*below, fork.pid]:
            try:
                os.kill(one, signum)
            except ProcessLookupError:
                continue

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._views.discard(pid)
            fork = self._forks.pop(pid, None)
            if fork is None:
                continue
            fork.living.discard(pid)
            if pid == fork.pid:
                fork.status = status
                if fork.living:
                    # All that is left in its PID namespace dies with the init.
                    os.kill(fork.init_pid, signal.SIGKILL)
            if not fork.living:
                del self._fork_of_sandbox[fork.sandbox_id]
                # Only when nothing of it is left may its uid and its /tmp be used again.
                clean = strays.kill_all(self._forks.keys() | self._views)
                self._tell({"exited": fork.sandbox_id, "status": fork.status, "clean": clean})

    def kill_everything(self) -> None:
        """End every sandbox and whatever they started."""
        for pid in self._forks:
            os.kill(pid, signal.SIGKILL)
        strays.kill_all({})

    def _tell(self, message: "dict[str, Any]") -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            # The host is gone; the next read says so.
            pass


class RuntimePackages(importlib.machinery.PathFinder):
    """Lets handlers import the packages that the runtime brings, and nothing else of the fleet's environment."""

    def __init__(self, folder: str, names: "list[str]") -> None:
        self._folder = [folder]
        self._names = frozenset(names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:  # type: ignore[override]
        """The module's spec when it is one of the runtime's."""
        if path is None and fullname in self._names:
            return importlib.machinery.PathFinder.find_spec(fullname, self._folder, target)
        return None


def main() -> NoReturn:
    """Runs as `python -I -S -c CODE FOLDER FD`: the folder of this package, the descriptor of the control socket."""
    control = socket.socket(fileno=int(sys.argv[2]))
    control.set_inheritable(False)
    configuration = json.loads(control.recv(MAX_PACKET_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    site.setquit()
    sys.dont_write_bytecode = True
    if configuration["packages_folder"]:
        sys.meta_path.append(RuntimePackages(configuration["packages_folder"], configuration["packages"]))
    started = time.monotonic()
    loaded = [name for name in configuration["preload"] if _imports(name)]
    found = probe(
        configuration["probe_uid"], configuration["needed"], configuration["folder"], configuration["probe_cgroups"]
    )
    gc.disable()
    gc.collect()
    gc.freeze()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    control.send(json.dumps({"ready": found, "loaded": loaded, "seconds": time.monotonic() - started}).encode())
    parent = Parent(control, configuration["needed"])
    try:
        parent.run()
    finally:
        parent.kill_everything()
        os._exit(0)


def _imports(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
