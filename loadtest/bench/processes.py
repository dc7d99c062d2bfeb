"""Children of the bench, each ended by its own pid, and what /proc says of a tree of processes."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_STAT_BYTES = 4_096
STOP_SECONDS = 15.0
_KILL_SECONDS = 5.0


class Child:
    """One process that the bench started; its output goes to a file whose end explains a failure."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls, name: str, command: list[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> "Child":
        """Start it in a session of its own, so that Ctrl-C reaches only the bench, which ends it in order."""
        # A file for its output: a pipe that nobody reads would stop it.
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**_inherited(), **(environment or {})},
                start_new_session=True,
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def explain(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-2_000:].strip()

    def check_alive(self) -> None:
        """RuntimeError, with its last words, when it has ended."""
        if self.process.returncode is not None:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.explain()}")

    async def stop(self, signum: signal.Signals = signal.SIGTERM, within_seconds: float = STOP_SECONDS) -> None:
        """Ask it to end; kill it and what it started when it does not in time."""
        family = [self.pid, *descendants(self.pid)]
        if self.process.returncode is None:
            self.process.send_signal(signum)
            try:
                async with asyncio.timeout(within_seconds):
                    await self.process.wait()
            except TimeoutError:
                print(f"bench: {self.name} did not end within {within_seconds:.0f} s; killed", file=sys.stderr)
                for pid in family:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                async with asyncio.timeout(_KILL_SECONDS):
                    await self.process.wait()


def _inherited() -> dict[str, str]:
    # What the bench sets for itself is no part of what it measures.
    return {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds of one process: its own, and of the children that it has reaped."""

    own: float
    reaped: float


def tree_times(pid: int) -> dict[int, CpuTimes]:
    """Of this process and every one below it, parents first, from one look at each; empty: it is gone."""
    stats = {int(entry): fields for entry in os.listdir("/proc") if entry.isdecimal() and (fields := _stat(int(entry)))}
    found = [pid] if pid in stats else []
    children: dict[int, list[int]] = {}
    for one, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(one)
    for one in found:
        found.extend(children.get(one, ()))
    ticks = {one: [int(text) / _TICKS_A_SECOND for text in stats[one][11:15]] for one in found}
    return {one: CpuTimes(sum(times[:2]), sum(times[2:])) for one, times in ticks.items()}


def descendants(pid: int) -> list[int]:
    """Every process below this one, parents first."""
    return list(tree_times(pid))[1:]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of the children it has reaped, seconds; 0 when it is gone."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS_A_SECOND if fields else 0.0


def command_of(pid: int) -> list[str]:
    """Its command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def pss_bytes(pid: int) -> int | None:
    """Its proportional set size; None when it is gone or not ours to read."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1_024
    except OSError:
        return None
    return None


def _stat(pid: int) -> list[str]:
    try:
        # Read as a file of pathlib's it costs three times as much, and looks at a fleet read hundreds.
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return []
    try:
        text = os.read(file, _STAT_BYTES).decode(errors="replace")
    except OSError:
        return []
    finally:
        os.close(file)
    # The name may hold spaces and parentheses: fields count from behind the last one.
    return text.rpartition(")")[2].split()
