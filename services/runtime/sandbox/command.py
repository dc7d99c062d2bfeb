"""The program that a sandbox runs where its code is not Python's own: started, measured, and ended like."""

import os
import resource
import signal
from typing import Any, NoReturn

# Python ignores these; a program expects what exec(2) gives it.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
_STATUS_BYTES = 4_096


class NoEntrypoint(Exception):
    """There is nothing to start, or it cannot be; in AWS's words."""


class Command:
    """One child in a process group of its own. NoEntrypoint: it does not start."""

    def __init__(self, choices: "list[list[str]]", environment: "dict[str, str]") -> None:
        """choices: program and arguments; the first whose program is there is started."""
        command = next((choice for choice in choices if os.path.lexists(choice[0])), None)
        if command is None:
            looked_at = " ".join(choice[0] for choice in choices)
            raise NoEntrypoint(f"Couldn't find valid bootstrap(s): [{looked_at}]")
        try:
            self.pid = os.posix_spawn(
                command[0], command, environment, setpgroup=0, setsigdef=_DEFAULT_SIGNALS, setsigmask=()
            )
        except OSError as e:
            # ENOEXEC, too: a script without a first line such as #!/bin/sh.
            raise NoEntrypoint(f"fork/exec {command[0]}: {(e.strerror or str(e)).lower()}") from None
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

    def terminate(self) -> None:
        """Pass SIGTERM on to all of its group."""
        try:
            os.killpg(self.pid, signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            # It has just ended, or is somebody else by now.
            pass


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
        # Still here: as the first process of a PID namespace it is safe from its own signals.
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(status))


def leave_to_wakeup(_signum: int, _frame: Any) -> None:
    """A handler that does nothing: the wakeup descriptor tells the loop."""
