"""Reads what handlers left: runs so far over all processes, and when the latest one began."""

import asyncio
import mmap
import os
import time
from pathlib import Path

from loadtest.bench import ticks

POLL_SECONDS = 0.005
# No progress for so long means that events were lost or a worker is stuck.
STALL_SECONDS = 30.0


class Stalled(RuntimeError):
    """What was submitted did not all run."""


class TickReader:
    """The runs noted in one folder; each file is mapped once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._cells: dict[str, memoryview[int]] = {}

    def runs(self) -> int:
        """Handler runs so far."""
        self._find_new()
        return sum(cells[0] for cells in self._cells.values())

    def latest_start_ns(self) -> int:
        """When the run that began last began, nanoseconds since the epoch; 0: none yet."""
        self._find_new()
        return max((cells[1] for cells in self._cells.values()), default=0)

    async def wait_for(self, runs: int, poll_seconds: float = POLL_SECONDS) -> None:
        """Until so many runs were noted in all. Stalled: none came for STALL_SECONDS."""
        seen, since = -1, time.monotonic()
        while (now := self.runs()) < runs:
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS:
                raise Stalled(f"{now} of {runs} handler runs, and none for {STALL_SECONDS:.0f} s")
            await asyncio.sleep(poll_seconds)

    def _find_new(self) -> None:
        for name in os.listdir(self.folder):
            if name in self._cells or not name.endswith(ticks.SUFFIX):
                continue
            with open(self.folder / name, "r+b") as file:
                # The writer makes the file, then gives it its size.
                if os.fstat(file.fileno()).st_size < ticks.FILE_BYTES:
                    continue
                self._cells[name] = memoryview(mmap.mmap(file.fileno(), ticks.FILE_BYTES)).cast("Q")
