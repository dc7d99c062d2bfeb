"""taskiq on a Redis stream."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.bench import ticks
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.peers import taskiq_app
from loadtest.bench.peers.peer import IN_FLIGHT, PAYLOAD_TEXT, WARM_UP_EVENTS
from loadtest.bench.peers.redis_server import RedisServer
from loadtest.bench.processes import Child
from loadtest.bench.tick_reader import TickReader

WORKERS = 2
MAX_ASYNC_TASKS = 16
_WORK_QUEUE = "work"
_ACCEPT_QUEUE = "accept"
_SETTLE_SECONDS = 30.0
_POLL_SECONDS = 0.005


class TaskiqPeer:
    """One Redis with one fsync mode, and taskiq on it."""

    def __init__(self, folder: Path, fsync: str) -> None:
        self.key = f"taskiq-{fsync}"
        self.name = f"taskiq + Redis streams ({fsync})"
        when = "before the answer" if fsync == "always" else "every second"
        self.how = (
            f"{IN_FLIGHT} callers in flight; {WORKERS} workers of {MAX_ASYNC_TASKS} at once, the handler in the "
            f"worker's loop; fsync {when}"
        )
        self.is_durable = fsync == "always"
        self.is_pipelined = False
        self.ticks = TickReader(folder / "ticks")
        self._folder = folder
        self._redis = RedisServer(folder, fsync)
        self._brokers: list[Any] = []

    async def start(self) -> None:
        """Redis, and a client of each queue."""
        await self._redis.start()
        self._kiqs = {}
        for queue in (_WORK_QUEUE, _ACCEPT_QUEUE):
            broker = taskiq_app.make_broker(self._redis.url, queue)
            self._kiqs[queue] = broker.register_task(taskiq_app.noop, task_name="noop").kiq
            await broker.startup()
            self._brokers.append(broker)

    async def stop(self) -> None:
        """Clients and Redis."""
        for broker in self._brokers:
            await broker.shutdown()
        self._brokers.clear()
        await self._redis.stop()

    async def accept(self, events: int) -> Rate:
        """Submit so many, 64 in flight, to a stream that no worker reads; then delete it."""
        meter = Meter()
        await self._submit(_ACCEPT_QUEUE, events)
        rate = meter.stop(events)
        await self._redis.client.xtrim(_ACCEPT_QUEUE, maxlen=0, approximate=False)
        return rate

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Worker processes, as taskiq's command line starts them."""
        environment = {
            taskiq_app.URL_VARIABLE: self._redis.url,
            taskiq_app.QUEUE_VARIABLE: _WORK_QUEUE,
            ticks.FOLDER_VARIABLE: str(self.ticks.folder),
        }
        command = [sys.executable, "-m", "taskiq", "worker", "loadtest.bench.peers.taskiq_app:broker"]
        command += ["--workers", str(WORKERS), "--max-async-tasks", str(MAX_ASYNC_TASKS), "--log-level", "WARNING"]
        worker = await Child.start(self.key, command, self._folder / "worker.log", environment)
        try:
            await self.end_to_end(WARM_UP_EVENTS)
            worker.check_alive()
            yield
        finally:
            await worker.stop()

    async def end_to_end(self, events: int) -> Rate:
        """Submit so many, 64 in flight; until each ran and was acknowledged to Redis."""
        expected = self.ticks.runs() + events
        meter = Meter()
        await self._submit(_WORK_QUEUE, events)
        await self.ticks.wait_for(expected)
        async with asyncio.timeout(_SETTLE_SECONDS):
            await self._all_acknowledged()
        rate = meter.stop(events)
        await self._redis.client.xtrim(_WORK_QUEUE, maxlen=0, approximate=False)
        return rate

    async def _all_acknowledged(self) -> None:
        # Redis tells nobody when a stream's last entry is acknowledged: it has to be asked.
        while (await self._redis.client.xpending(_WORK_QUEUE, "taskiq"))["pending"]:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)

    async def submit_one(self) -> None:
        """One event."""
        await self._kiqs[_WORK_QUEUE](PAYLOAD_TEXT)

    async def _submit(self, queue: str, events: int) -> None:
        kiq = self._kiqs[queue]
        numbers = iter(range(events))

        async def caller() -> None:
            for _ in numbers:
                await kiq(PAYLOAD_TEXT)

        await asyncio.gather(*(caller() for _ in range(min(IN_FLIGHT, events))))
