"""Huey on SQLite."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.bench import ticks
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.peers import huey_app
from loadtest.bench.peers.peer import PAYLOAD_TEXT, WARM_UP_EVENTS
from loadtest.bench.processes import Child
from loadtest.bench.tick_reader import TickReader

# One thread, Huey's own default: further workers wait for the one file's lock and make it slower.
WORKERS = 1
WORKER_TYPE = "thread"
# An idle worker asks the file so often; Huey's own default, 100 ms to 10 s, would decide the idle row.
DELAY_SECONDS = 0.01


class HueyPeer:
    """One SQLite file and Huey's consumer on it."""

    key = "huey"
    name = "Huey on SQLite (fsync)"
    how = "one caller; one worker thread, which looks every 10 ms; fsync before the answer"
    is_durable = True
    is_pipelined = False

    def __init__(self, folder: Path) -> None:
        self.ticks = TickReader(folder / "ticks")
        self._folder = folder
        self._work_file = folder / "work.db"
        self._work: tuple[Any, Any] | None = None
        self._accepts = 0

    async def start(self) -> None:
        """The file that the consumer works on."""
        self._work = huey_app.make_huey(str(self._work_file))

    async def stop(self) -> None:
        """Close it."""
        if self._work is not None:
            self._work[0].storage.close()
            self._work = None

    async def accept(self, events: int) -> Rate:
        """Submit so many from one caller into a fresh file that no worker reads."""
        self._accepts += 1
        filename = self._folder / f"accept-{self._accepts}.db"
        huey, noop = huey_app.make_huey(str(filename))
        noop(PAYLOAD_TEXT)
        meter = Meter()
        for _ in range(events):
            noop(PAYLOAD_TEXT)
        rate = meter.stop(events)
        huey.storage.close()
        for path in self._folder.glob(filename.name + "*"):
            path.unlink()
        return rate

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The consumer with its workers."""
        environment = {
            huey_app.FILE_VARIABLE: str(self._work_file),
            ticks.FOLDER_VARIABLE: str(self.ticks.folder),
        }
        delay = str(DELAY_SECONDS)
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "loadtest.bench.peers.huey_app.huey"]
        command += ["-k", WORKER_TYPE, "-w", str(WORKERS), "-d", delay, "-m", delay, "-n", "-q"]
        consumer = await Child.start(self.key, command, self._folder / "consumer.log", environment)
        try:
            await self.end_to_end(WARM_UP_EVENTS)
            consumer.check_alive()
            yield
        finally:
            # Huey drains on INT; on TERM it interrupts what runs.
            await consumer.stop(signal.SIGINT)

    async def end_to_end(self, events: int) -> Rate:
        """Submit so many from one caller; until each ran (Huey takes an event out of its file before it runs it)."""
        assert self._work is not None
        expected = self.ticks.runs() + events
        meter = Meter()
        for _ in range(events):
            self._work[1](PAYLOAD_TEXT)
        await self.ticks.wait_for(expected)
        return meter.stop(events)

    async def submit_one(self) -> None:
        """One event."""
        assert self._work is not None
        self._work[1](PAYLOAD_TEXT)
