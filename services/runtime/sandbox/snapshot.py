"""A template: a sandbox that loads the handler once and then forks, instead of running it.

The host asks for a fork over a SOCK_SEQPACKET socket: a JSON object and four descriptors (mount namespace, channel,
output, hello). A fork tells the host who it is through `hello`, and does nothing before it has GO from there: by then
it is in a cgroup of its own. It takes its mounts, gives up what the template still had, and serves as any sandbox does.

The template keeps two capabilities, in a user namespace that knows one user and owns nothing but these mounts: enough
for a fork to enter mounts that the host made for it.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import time
from typing import NamedTuple

from . import bootstrap, frames, hooks, landlock, linux, view

CAPABILITIES = (linux.CAP_SYS_ADMIN, linux.CAP_SYS_CHROOT)
# The only call that a template may make and its forks may not.
CALL_OF_TEMPLATE = "setns"
# Forks of one template at once, each with a /tmp that its Landlock rules knew from the start.
MAX_FORKS = 64
GO = b"\1"
HELLO = b"\0"
MAX_PACKET_BYTES = 1_024
# Every other variable is as the handler's module found or left it.
FRESH_VARIABLES = ("AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE")
_FORK_FDS = 4
_FAILED = 70


class Rules(NamedTuple):
    """What holds for a fork on top of what holds for the template: Landlock's version or 0, a filter or nothing."""

    landlock: int
    filter_program: bytes


class Template:
    """Forks on request until the host closes the socket."""

    def __init__(self, control: socket.socket, rules: Rules) -> None:
        self._control = control
        self._rules = rules
        # By descriptor of the process: its pid and the number that the host gave it.
        self._forks: dict[int, tuple[int, int]] = {}

    def take(self, channel: socket.socket) -> int:
        """Tell the host that the handler is loaded, fork; returns in each fork, with when it got its function.

        The template itself never returns. Fault: a hook failed, before the snapshot or in this fork.
        """
        started = time.monotonic_ns()
        hooks.run_before_snapshot()
        bootstrap.flush_output()
        gc.collect()
        # What is not looked at by the collector stays in memory that all share.
        gc.freeze()
        max_rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        channel.sendall(frames.pack_ready((time.monotonic_ns() - started) // 1_000, max_rss_kb))
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd != self._control.fileno():
                    poll.unregister(fd)
                    self._reap(fd)
                    continue
                data, fds, _, _ = socket.recv_fds(self._control, MAX_PACKET_BYTES, _FORK_FDS, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    os._exit(0)
                fork_fd = self._fork(json.loads(data)["fork"], fds)
                if fork_fd is None:
                    return self._become(channel, *fds)
                if fork_fd >= 0:
                    poll.register(fork_fd, select.POLLIN)

    def _fork(self, number: int, fds: "list[int]") -> "int | None":
        """A descriptor of the fork's process; -1: it cannot be made; None: this is the fork."""
        pid = -1
        # Fewer: the handler's module used up what it may have open.
        if len(fds) == _FORK_FDS:
            try:
                pid = os.fork()
            except OSError:
                pid = -1
        if pid == 0:
            return None
        for fd in fds:
            os.close(fd)
        if pid < 0:
            self._tell(number, -1)
            return -1
        fork_fd = os.pidfd_open(pid)
        self._forks[fork_fd] = pid, number
        return fork_fd

    def _reap(self, fork_fd: int) -> None:
        pid, number = self._forks.pop(fork_fd)
        os.close(fork_fd)
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            # Whoever wrote the handler's module reaps everything.
            status = -1
        self._tell(number, status)

    def _tell(self, number: int, status: int) -> None:
        try:
            self._control.send(json.dumps({"ended": number, "status": status}).encode())
        except OSError:
            # The host is gone; the next read says so.
            pass

    def _become(self, channel: socket.socket, mounts_fd: int, channel_fd: int, output_fd: int, hello_fd: int) -> int:
        """Turn this fork into a sandbox of its own, wait for its assignment; returns when that came.

        What fails ends it. Fault: a hook failed.
        """
        try:
            for fd in self._forks:
                os.close(fd)
            self._control.close()
            os.dup2(channel_fd, bootstrap.CHANNEL_FD, inheritable=False)
            os.dup2(output_fd, 1)
            os.dup2(output_fd, 2)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            os.write(hello_fd, HELLO)
            if os.read(hello_fd, 1) != GO:
                os._exit(0)
            linux.setns(mounts_fd, linux.CLONE_NEWNS)
            for fd in (mounts_fd, channel_fd, output_fd, hello_fd):
                os.close(fd)
            os.chdir(view.TASK_ROOT)
            linux.drop_capabilities()
            if self._rules.landlock:
                landlock.set_apart(self._rules.landlock)
            if self._rules.filter_program:
                linux.load_seccomp_filter(self._rules.filter_program)
            configuration = frames.read_configure(channel.recv)
            if not configuration:
                os._exit(0)
            started = time.monotonic_ns()
            environment = json.loads(configuration)["environment"]
            os.environ.update({name: environment[name] for name in FRESH_VARIABLES})
            hooks.refresh_randomness()
        except BaseException as e:
            try:
                text = f"{type(e).__name__}: {e}"
                channel.sendall(frames.pack_failure(frames.FAULT, "Runtime.SandboxFault", text, b""))
            finally:
                os._exit(_FAILED)
        hooks.run_after_restore()
        return started


def is_plausible(status: int) -> bool:
    """Whether wait(2) can have given it for a process that ended; -1: not known."""
    return status == -1 or (0 <= status <= 0xFFFF and (os.WIFEXITED(status) or os.WIFSIGNALED(status)))


class Receiver:
    """Reads a channel's bytes, and keeps the descriptors that come beside them."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.fds: list[int] = []

    def receive(self, size_bytes: int) -> bytes:
        """At most so many bytes; empty: the end."""
        data, fds, _, _ = socket.recv_fds(self._channel, size_bytes, 1, socket.MSG_CMSG_CLOEXEC)
        self.fds += fds
        return data
