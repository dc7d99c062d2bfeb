"""One service process: started, awaited, started again with a growing pause."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cli.supervisor.log_file import LogFile
from cli.supervisor.plan import NodePlan
from services.shared.lifecycle import EXIT_BAD_SETTINGS, EXIT_CANNOT_START

RESTART_BASE_SECONDS = 0.1
RESTART_CAP_SECONDS = 5.0
# Who ran for so long and then crashed is started again as if it was the first time.
GOOD_WHILE_SECONDS = 30.0
# Crashes in a row, before it ever served, after which it is given up.
MAX_FIRST_CRASHES = 3
KILL_WAIT_SECONDS = 2.0


def restart_pause(crashes: int) -> float:
    """Seconds before the next start after so many crashes in a row, 1-based."""
    return float(min(RESTART_CAP_SECONDS, RESTART_BASE_SECONDS * 2 ** min(crashes - 1, 10)))


def describe_exit(returncode: int) -> str:
    """How a process ended."""
    if returncode >= 0:
        return f"exit {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


class Child:
    """Keeps one process running until told to stop.

    say: a line for the person at the terminal. on_change: pid or state changed. on_hopeless: it cannot start.
    """

    def __init__(
        self,
        plan: NodePlan,
        logs: Path,
        lock_fd: int,
        *,
        say: Callable[[str], None],
        on_change: Callable[[], None],
        on_hopeless: Callable[[str, str], None],
    ) -> None:
        self.plan = plan
        self.log = LogFile(logs / f"{plan.node_id}.log")
        self.has_served = False
        self._lock_fd = lock_fd
        self._say = say
        self._on_change = on_change
        self._on_hopeless = on_hopeless
        self._process: asyncio.subprocess.Process | None = None
        self._is_stopping = False
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process; 0 when none runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else 0

    def start(self) -> None:
        """Run it from now on."""
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.plan.node_id}")

    async def stop(self, within_seconds: float) -> bool:
        """SIGTERM, wait, then SIGKILL by pid; True when it went by itself."""
        self._is_stopping = True
        went = True
        process = self._process
        if process is None or process.returncode is not None:
            # Between two runs: there is only a pause to end.
            if self._keeper is not None:
                self._keeper.cancel()
        else:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), within_seconds)
            except TimeoutError:
                went = False
                self._signal(signal.SIGKILL)
                await asyncio.wait_for(process.wait(), KILL_WAIT_SECONDS)
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)
        return went

    def _signal(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            try:
                self._process.send_signal(signum)
            except ProcessLookupError:
                return

    async def _keep(self) -> None:
        crashes = 0
        while not self._is_stopping:
            started = time.monotonic()
            returncode, words = await self._run_once()
            if self._is_stopping:
                return
            crashes = 1 if time.monotonic() - started > GOOD_WHILE_SECONDS else crashes + 1
            if not self.has_served and (
                returncode in (EXIT_BAD_SETTINGS, EXIT_CANNOT_START) or crashes >= MAX_FIRST_CRASHES
            ):
                self._on_hopeless(self.plan.node_id, words)
                return
            pause = restart_pause(crashes)
            how = describe_exit(returncode) if returncode is not None else words
            self._say(f"{self.plan.node_id} ended ({how}); starting it again in {pause:.1f} s")
            await asyncio.sleep(pause)

    async def _run_once(self) -> tuple[int | None, str]:
        """How it ended (None: it did not even start) and its last words."""
        try:
            process = self._process = await self._spawn()
        except OSError as e:
            # No memory, no processes, no disk for its log: may be over in a moment.
            return None, f"no process: {e.strerror}"
        self._on_change()
        returncode = await process.wait()
        self._on_change()
        return returncode, self.log.last_words() or describe_exit(returncode)

    async def _spawn(self) -> asyncio.subprocess.Process:
        log_fd = self.log.open()
        try:
            # -P: what lies in the current folder must not shadow a module. A session of its own: Ctrl-C reaches only
            # the supervisor, which drains in order. The lock goes along, so that a data directory is free only when
            # the last process that writes to it has ended.
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                f"services.{self.plan.role}",
                env={**os.environ, **self.plan.environment},
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_fd,
                stderr=log_fd,
                start_new_session=True,
                pass_fds=(self._lock_fd,),
            )
        finally:
            os.close(log_fd)
