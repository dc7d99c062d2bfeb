"""A child process started by fork and exec alone, with the few methods of asyncio's that callers need.

uvloop starts one by a fork in which Python's at-fork handlers run: where the caller has traces and gRPC, these start
threads and collect gRPC's objects in the child, which crashes now and then before it is the program.
"""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence


class PlainProcess:
    """A running child. OSError: it cannot be started."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], stderr: int | None = None) -> None:
        self._popen = subprocess.Popen(command, env=env, stderr=stderr)
        self.pid = self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; below 0: the signal that ended it."""
        return self._popen.poll()

    def send_signal(self, signum: int) -> None:
        """Signal it, unless it has ended."""
        self._popen.send_signal(signum)

    def kill(self) -> None:
        """End it."""
        self._popen.kill()

    async def wait(self) -> int:
        """Until it has ended; its exit code. Cancelled waits leave nothing behind: callers give up by the hundred."""
        if (code := self.returncode) is not None:
            return code
        ended = asyncio.Event()
        loop, pidfd = asyncio.get_running_loop(), os.pidfd_open(self.pid)
        try:
            loop.add_reader(pidfd, ended.set)
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self._popen.wait()
