"""NATS JetStream: a work queue in a file that is not fsynced before the answer, consumers without a sandbox."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from loadtest.bench import ticks
from loadtest.bench.grpc_client import BATCH_EVENTS, BATCHES_IN_FLIGHT
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.peers.nats_server import NatsServer
from loadtest.bench.peers.peer import PAYLOAD_TEXT, WARM_UP_EVENTS
from loadtest.bench.processes import Child
from loadtest.bench.tick_reader import TickReader

WORKERS = 2
CONSUMER = "workers"
WORK_SUBJECT, ACCEPT_SUBJECT = "work", "accept"
# Published and not yet answered: as many events as Evenflow's stream of batches has.
IN_FLIGHT = BATCH_EVENTS * BATCHES_IN_FLIGHT
FETCH_EVENTS = 100
# What may be fetched and not acknowledged, of all workers.
MAX_UNACKNOWLEDGED = 4_096
PAYLOAD = f'"{PAYLOAD_TEXT}"'.encode()
_SETTLE_SECONDS = 30.0
_POLL_SECONDS = 0.005


class JetStreamPeer:
    """One server, a stream for each of the two rows, and consumers on one of them."""

    key = "jetstream"
    name = "NATS JetStream (file)"
    how = (
        f"{IN_FLIGHT:,} events published ahead of their answers, as in Evenflow's batches; {WORKERS} pull "
        "consumers that only parse, without any sandbox; no fsync before the answer (every two minutes)"
    )
    is_durable = False
    is_pipelined = True

    def __init__(self, folder: Path) -> None:
        self.ticks = TickReader(folder / "ticks")
        self._folder = folder
        self._server = NatsServer(folder)
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None

    @property
    def jetstream(self) -> JetStreamContext:
        """Once it was started."""
        assert self._jetstream is not None
        return self._jetstream

    async def start(self) -> None:
        """The server, its streams, and the consumer that all workers share."""
        await self._server.start()
        self._client = await nats.connect(self._server.url)
        self._jetstream = self._client.jetstream(publish_async_max_pending=IN_FLIGHT)
        for subject in (WORK_SUBJECT, ACCEPT_SUBJECT):
            await self.jetstream.add_stream(
                StreamConfig(
                    name=subject,
                    subjects=[subject],
                    storage=StorageType.FILE,
                    # An acknowledged event is gone, as in the other queues.
                    retention=RetentionPolicy.WORK_QUEUE,
                )
            )
        config = ConsumerConfig(durable_name=CONSUMER, max_ack_pending=MAX_UNACKNOWLEDGED)
        await self.jetstream.add_consumer(WORK_SUBJECT, config)

    async def stop(self) -> None:
        """Client and server."""
        if self._client is not None:
            await self._client.close()
            self._client = None
        await self._server.stop()

    async def accept(self, events: int) -> Rate:
        """Publish so many, IN_FLIGHT of them unanswered, to a stream that no worker reads; then purge it."""
        meter = Meter()
        await self._publish(ACCEPT_SUBJECT, events)
        rate = meter.stop(events)
        await self.jetstream.purge_stream(ACCEPT_SUBJECT)
        return rate

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Worker processes, which share one pull consumer."""
        command = [sys.executable, "-m", "loadtest.bench.peers.jetstream_worker", self._server.url]
        environment = {ticks.FOLDER_VARIABLE: str(self.ticks.folder)}
        async with AsyncExitStack() as stack:
            workers = []
            for number in range(WORKERS):
                log = self._folder / f"worker-{number}.log"
                worker = await Child.start(self.key, command, log, environment)
                stack.push_async_callback(worker.stop)
                workers.append(worker)
            await self.end_to_end(WARM_UP_EVENTS)
            for worker in workers:
                worker.check_alive()
            yield

    async def end_to_end(self, events: int) -> Rate:
        """Publish so many, IN_FLIGHT of them unanswered; until each was handled and its acknowledgement removed it."""
        expected = self.ticks.runs() + events
        meter = Meter()
        await self._publish(WORK_SUBJECT, events)
        await self.ticks.wait_for(expected)
        async with asyncio.timeout(_SETTLE_SECONDS):
            # It tells nobody when the last one is acknowledged: it has to be asked.
            while (await self.jetstream.stream_info(WORK_SUBJECT)).state.messages:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_SECONDS)
        return meter.stop(events)

    async def submit_one(self) -> None:
        """One event; until it is answered."""
        await self.jetstream.publish(WORK_SUBJECT, PAYLOAD)

    async def _publish(self, subject: str, events: int) -> None:
        answers = [await self.jetstream.publish_async(subject, PAYLOAD) for _ in range(events)]
        # Each answer, since an event that was refused is none that was accepted.
        await asyncio.gather(*answers)
