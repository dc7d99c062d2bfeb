"""Celery on a Redis that fsyncs before it answers."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadtest.bench import ticks
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.peers import celery_app
from loadtest.bench.peers.peer import PAYLOAD_TEXT, WARM_UP_EVENTS
from loadtest.bench.peers.redis_server import RedisServer
from loadtest.bench.processes import Child
from loadtest.bench.tick_reader import TickReader

WORKERS = 2
_WORK_QUEUE = "work"
_ACCEPT_QUEUE = "accept"
# Where Celery's Redis transport keeps what was delivered and is not acknowledged.
_UNACKNOWLEDGED = "unacked"
_SETTLE_SECONDS = 30.0
_POLL_SECONDS = 0.005


class CeleryPeer:
    """One Redis and Celery's prefork workers on it."""

    key = "celery-always"
    name = "Celery + Redis (always), prefork, acks_late"
    how = f"one caller; {WORKERS} worker processes; fsync before the answer"
    is_durable = True
    is_pipelined = False

    def __init__(self, folder: Path) -> None:
        self.ticks = TickReader(folder / "ticks")
        self._folder = folder
        self._redis = RedisServer(folder, "always")
        self._url = f"redis+socket://{self._redis.socket}"
        self._apps: dict[str, tuple[Any, Any]] = {}

    async def start(self) -> None:
        """Redis, and a client of each queue."""
        await self._redis.start()
        for queue in (_WORK_QUEUE, _ACCEPT_QUEUE):
            self._apps[queue] = celery_app.make_app(self._url, queue)

    async def stop(self) -> None:
        """Clients and Redis."""
        for app, _ in self._apps.values():
            app.close()
        self._apps.clear()
        await self._redis.stop()

    async def accept(self, events: int) -> Rate:
        """Submit so many from one caller to a queue that no worker reads; then delete it."""
        meter = Meter()
        await self._submit(_ACCEPT_QUEUE, events)
        rate = meter.stop(events)
        await self._redis.client.delete(_ACCEPT_QUEUE)
        return rate

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Worker processes, as Celery's command line starts them."""
        environment = {
            celery_app.URL_VARIABLE: self._url,
            celery_app.QUEUE_VARIABLE: _WORK_QUEUE,
            ticks.FOLDER_VARIABLE: str(self.ticks.folder),
        }
        command = [sys.executable, "-m", "celery", "--app", "loadtest.bench.peers.celery_app:app", "worker"]
        command += ["--pool", "prefork", "--concurrency", str(WORKERS), "--loglevel", "WARNING"]
        # What workers tell one another is no part of what is measured.
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        worker = await Child.start(self.key, command, self._folder / "worker.log", environment)
        try:
            await self.end_to_end(WARM_UP_EVENTS)
            worker.check_alive()
            yield
        finally:
            await worker.stop()

    async def end_to_end(self, events: int) -> Rate:
        """Submit so many from one caller; until each ran and was acknowledged to Redis."""
        expected = self.ticks.runs() + events
        meter = Meter()
        await self._submit(_WORK_QUEUE, events)
        await self.ticks.wait_for(expected)
        async with asyncio.timeout(_SETTLE_SECONDS):
            # Redis tells nobody when the last one is acknowledged: it has to be asked.
            while await self._redis.client.hlen(_UNACKNOWLEDGED):  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
        return meter.stop(events)

    async def submit_one(self) -> None:
        """One event."""
        await asyncio.to_thread(self._apps[_WORK_QUEUE][1].delay, PAYLOAD_TEXT)

    async def _submit(self, queue: str, events: int) -> None:
        delay = self._apps[queue][1].delay

        def call() -> None:
            for _ in range(events):
                delay(PAYLOAD_TEXT)

        # One caller: its client is synchronous, and 16 or 64 threads of it submit a tenth to two thirds fewer.
        await asyncio.to_thread(call)
