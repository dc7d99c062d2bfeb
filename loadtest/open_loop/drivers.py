"""The driver processes of one run: started, begun together, awaited, ended."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from loadtest.open_loop import files

START_SECONDS = 60.0
# From the last driver's readiness to the common begin.
HEADSTART_SECONDS = 0.1
# A driver writes its arrays down within this time of its last answer.
SAVE_SECONDS = 60.0
_END_SECONDS = 3.0
_POLL_SECONDS = 0.02
_LAST_WORDS_CHARACTERS = 1_500


class DriverFailed(RuntimeError):
    """A driver process ended without a result, or takes too long; the message says which, with its last words."""


class Drivers:
    """So many drivers; use as a context: none of them outlives it.

    pids: their processes. Started by a plain fork and exec of the standard library's: the caller may have gRPC's
    threads. In a session of their own, so that Ctrl-C reaches only the caller, who ends them.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Drivers":
        for index in range(self._count):
            with (self._folder / files.log(index)).open("ab") as output:
                command = [sys.executable, "-m", "loadtest.open_loop.driver", str(self._folder), str(index)]
                self._children.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=output,
                        env={**os.environ, "GRPC_VERBOSITY": "NONE"},
                        start_new_session=True,
                    )
                )
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + _END_SECONDS
        for child in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                # A stopped process ends by this only.
                child.send_signal(signal.SIGKILL)
                child.wait()
            if child.stdin is not None:
                child.stdin.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes, by index."""
        return [child.pid for child in self._children]

    async def ready(self) -> None:
        """Until all could begin. DriverFailed: one ended or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not all((self._folder / files.ready(index)).exists() for index in range(self._count)):
            self._check()
            if time.monotonic() > deadline:
                raise DriverFailed(f"the load drivers were not ready within {START_SECONDS:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    def begin(self) -> tuple[int, int]:
        """Have all begin at one moment: nanoseconds of the monotonic clock, and since the epoch."""
        begin_ns = time.monotonic_ns() + int(HEADSTART_SECONDS * 1e9)
        wall_ns = time.time_ns() + begin_ns - time.monotonic_ns()
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write(b"%d\n" % begin_ns)
            child.stdin.flush()
        return begin_ns, wall_ns

    def are_done(self) -> bool:
        """Whether all have left their part. DriverFailed: one ended without."""
        self._check()
        return all(child.poll() == 0 for child in self._children)

    def _check(self) -> None:
        for index, child in enumerate(self._children):
            if child.poll() not in (None, 0):
                words = (self._folder / files.log(index)).read_text(errors="replace")[-_LAST_WORDS_CHARACTERS:]
                raise DriverFailed(f"load driver {index} ended with {child.returncode}: {words.strip()}")
