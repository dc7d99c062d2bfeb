"""The host's end of one fork of a template: made, put into its cgroup, ended."""

import asyncio
import logging
import os
import signal
import socket
import struct
from collections.abc import Sequence
from typing import Protocol

from services.runtime import group_end
from services.runtime.parents import Fork
from services.runtime.sandbox import snapshot
from services.runtime.seats import Seat

# After the end of its process, for the template's word how it ended.
EXIT_WORD_SECONDS = 0.05
_MAX_REASON_BYTES = 1_024
_CREDENTIALS = struct.Struct("iII")
log = logging.getLogger(__name__)


class ForkingTemplate(Protocol):
    """What a fork needs of its template; see templates.py."""

    @property
    def pid(self) -> int: ...
    @property
    def entrances(self) -> Sequence[str]: ...
    def ask_view(self, tmp_dir: str, reply: socket.socket) -> None: ...
    def ask_fork(self, number: int, fds: Sequence[int]) -> None: ...
    def on_fork_begun(self, number: int, fork: "TemplateFork") -> None: ...
    def on_fork_gone(self, number: int, *, was_admitted: bool) -> None: ...
    def free(self, fork: "TemplateFork") -> None: ...


class TemplateFork:
    """Stands where the prepared parent stands for other sandboxes. `seat`: the template's, with a /tmp of its own."""

    def __init__(self, template: ForkingTemplate, seat: Seat) -> None:
        self.seat = seat
        # Whether it was given its function; until then it waits, blank.
        self.is_used = False
        self._template = template
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._fork: Fork | None = None
        self._entrances: Sequence[str] = ()
        # The sandbox's ends, until the template has them.
        self._ends: list[int] = []
        self._view: socket.socket | None = None
        self._hello: socket.socket | None = None
        self._pid_fd = -1
        self._status: int | None = None
        self._has_word = asyncio.Event()
        self._was_admitted = False
        self._admission: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The template's process."""
        return self._template.pid

    def fork(self, sandbox_id: int, cgroups: Sequence[str], channel: socket.socket, output_fd: int, fork: Fork) -> None:
        """See PreparedParent.fork. OSError: the template or its parent is down."""
        view, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        view.setblocking(False)
        with theirs:
            try:
                self._template.ask_view(self.seat.tmp_dir, theirs)
            except OSError:
                view.close()
                raise
        self._number, self._entrances, self._fork, self._view = sandbox_id, cgroups, fork, view
        self._ends = [os.dup(channel.fileno()), os.dup(output_fd)]
        self._loop.add_reader(view, self._on_view)
        self._template.on_fork_begun(sandbox_id, self)

    def signal(self, _sandbox_id: int, signum: int) -> None:
        """Signal the sandbox and all it started; after SIGKILL its on_exit follows."""
        if self._pid_fd >= 0:
            if signum == signal.SIGKILL:
                self._end()
            else:
                group_end.send(self._entrances[0], signum)
        elif signum == signal.SIGKILL:
            # It has not begun; should its process come yet, it ends for want of a GO.
            self._loop.call_soon(self._give_up)

    def free(self) -> None:
        """Nothing of it is left, or it was never asked for."""
        self._template.free(self)

    def on_status(self, status: int) -> None:
        """The template's word how it ended: a template runs its function's code, and speaks of its own forks only."""
        self._status = status
        self._has_word.set()
        if self._pid_fd < 0:
            self._finish(status)

    def on_template_gone(self) -> None:
        """All forks are dead."""
        self._has_word.set()
        if self._pid_fd >= 0:
            self._end()
        else:
            self._finish(-1)

    # --- from the request to the sandbox

    def _on_view(self) -> None:
        assert self._view is not None
        data, fds, _, _ = socket.recv_fds(self._view, _MAX_REASON_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        if not fds:
            # Of a template that is ending, as a rule.
            text = data.decode(errors="replace") or "the template is gone, or its parent cannot fork"
            log.warning("a fork of a template gets no mounts: %s", text)
            self._finish(-1)
            return
        hello, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hello.setblocking(False)
        # The kernel says who writes, as this process knows it.
        hello.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._hello = hello
        self._close_view()
        try:
            self._template.ask_fork(self._number, [*fds, *self._ends, theirs.fileno()])
        except OSError as e:
            log.error("a template cannot be asked to fork: %s", e)
            self._finish(-1)
        else:
            self._loop.add_reader(hello, self._on_hello)
        finally:
            theirs.close()
            for fd in fds:
                os.close(fd)
            self._close_ends()

    def _on_hello(self) -> None:
        assert self._hello is not None
        self._loop.remove_reader(self._hello)
        data, ancillary, _, _ = self._hello.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not data:
            # It ended before; the template's word follows.
            self._loop.call_later(EXIT_WORD_SECONDS, self._finish, -1)
            return
        try:
            found = next(content for _, kind, content in ancillary if kind == socket.SCM_CREDENTIALS)
            pid = _CREDENTIALS.unpack(found)[0]
            self._pid_fd = os.pidfd_open(pid)
            # Held first, looked at then: the number cannot be another process's meanwhile.
            if pid not in group_end.pids_in(self._template.entrances[0]):
                raise ProcessLookupError(3, f"process {pid} is not one of the template's")
        except (OSError, StopIteration, struct.error) as e:
            log.error("a fork of a template is not let in: %s", e)
            self._close_pid()
            self._finish(-1)
        else:
            self._admission = asyncio.create_task(self._admit(pid), name="admit a fork of a template")

    async def _admit(self, pid: int) -> None:
        """Put its process into its group, let it go on; off the loop, as the kernel may take 10 ms for it."""
        assert self._fork is not None
        try:
            await asyncio.to_thread(_enter, self._entrances, pid)
            if self._ending is not None or self._hello is None:
                return
            self._hello.send(snapshot.GO)
        except OSError as e:
            # Its end as a rule: whoever waits is told by what follows.
            log.warning("a fork of a template cannot enter its cgroup: %s", e)
            self._end()
            return
        self._was_admitted = True
        self._close_hello()
        self._fork.on_pid(pid)
        self._loop.add_reader(self._pid_fd, self._end)

    # --- the end

    def _end(self) -> None:
        if self._ending is None:
            if self._pid_fd >= 0:
                self._loop.remove_reader(self._pid_fd)
            self._ending = asyncio.create_task(self._end_all(), name="end a fork of a template")

    def _give_up(self) -> None:
        if self._pid_fd >= 0:
            self._end()
        else:
            self._finish(-1)

    async def _end_all(self) -> None:
        if self._admission is not None:
            await asyncio.gather(self._admission, return_exceptions=True)
        try:
            # One that was not let in is in no group.
            signal.pidfd_send_signal(self._pid_fd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if not await asyncio.to_thread(group_end.end, self._entrances):
            log.error("processes of a dead sandbox would not die")
        try:
            async with asyncio.timeout(EXIT_WORD_SECONDS):
                await self._has_word.wait()
        except TimeoutError:
            pass
        self._finish(-1 if self._status is None else self._status)

    def _finish(self, status: int) -> None:
        fork, self._fork = self._fork, None
        if fork is None:
            return
        self._close_view()
        self._close_hello()
        self._close_ends()
        self._close_pid()
        fork.on_exit(status)
        self._template.on_fork_gone(self._number, was_admitted=self._was_admitted)

    def _close_pid(self) -> None:
        if self._pid_fd >= 0:
            self._loop.remove_reader(self._pid_fd)
            os.close(self._pid_fd)
            self._pid_fd = -1

    def _close_view(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            self._close(view)

    def _close_hello(self) -> None:
        hello, self._hello = self._hello, None
        if hello is not None:
            self._close(hello)

    def _close(self, end: socket.socket) -> None:
        self._loop.remove_reader(end)
        end.close()

    def _close_ends(self) -> None:
        for fd in self._ends:
            os.close(fd)
        self._ends = []


def _enter(entrances: Sequence[str], pid: int) -> None:
    for entrance in entrances:
        with open(entrance, "w") as file:
            file.write(str(pid))
