"""The program that a sandbox runs where its code is not Python's own: started, measured, and ended like."""

import os
import resource
import signal
from collections.abc import Callable
from typing import Any, NoReturn

# Python ignores these; a program expects what exec(2) gives it.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_STATUS_BYTES = 4_096
_TROUBLE_BYTES = 4_096
_NOT_STARTED = "fork/exec"


class NoEntrypoint(Exception):
    """There is nothing to start, or it cannot be; in AWS's words."""


class Command:
    """One child in a process group of its own. NoEntrypoint: it does not start. OSError: it cannot be shut in."""

    def __init__(
        self, choices: "list[list[str]]", environment: "dict[str, str]", enforce: "Callable[[], None]"
    ) -> None:
        """choices: program and arguments; the first whose program is there is started. enforce: its last bounds."""
        command = next((choice for choice in choices if os.path.lexists(choice[0])), None)
        if command is None:
            looked_at = " ".join(choice[0] for choice in choices)
            raise NoEntrypoint(f"Couldn't find valid bootstrap(s): [{looked_at}]")
        trouble_read, trouble_write = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            _become(command, environment, enforce, trouble_write)
        os.close(trouble_write)
        with open(trouble_read, "rb") as file:
            # Empty when the program runs: exec closes the other end.
            trouble = file.read(_TROUBLE_BYTES).decode(errors="replace")
        if trouble.startswith(_NOT_STARTED):
            raise NoEntrypoint(trouble)
        if trouble:
            raise OSError(trouble)
        self._status_fd = _open_status(self.pid)

    def max_rss_kb(self) -> int:
        """Peak memory of it, or of the largest of its dead children."""
        waited_for = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        if self._status_fd < 0:
            return waited_for
        try:
            text = os.pread(self._status_fd, _STATUS_BYTES, 0)
        except OSError:
            return waited_for
        at = text.find(b"VmHWM:")
        return max(waited_for, int(text[at + 6 :].split(None, 1)[0])) if at >= 0 else waited_for


def _become(
    command: "list[str]", environment: "dict[str, str]", enforce: "Callable[[], None]", trouble_fd: int
) -> NoReturn:
    trouble = ""
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        for number in _DEFAULT_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        try:
            enforce()
        except Exception as e:
            trouble = f"it cannot be shut in: {type(e).__name__}: {e}"
        else:
            os.execve(command[0], command, environment)
    except OSError as e:
        # ENOEXEC, too: a script without a first line such as #!/bin/sh.
        trouble = f"{_NOT_STARTED} {command[0]}: {(e.strerror or str(e)).lower()}"
    finally:
        try:
            os.write(trouble_fd, trouble.encode())
        finally:
            os._exit(127)


def _open_status(pid: int) -> int:
    try:
        return os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def end_like(status: int) -> NoReturn:
    """End this process as wait(2) says that another one ended, by the same signal: the host reads the cause from it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        # Still here: the first process of a PID namespace is safe from its own signals.
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(status))


def leave_to_wakeup(_signum: int, _frame: Any) -> None:
    """A handler that does nothing: the wakeup descriptor tells the loop."""
