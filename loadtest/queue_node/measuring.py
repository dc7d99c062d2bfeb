"""How fast one queue node is by itself, and what an event costs it."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from loadtest.bench import processes
from loadtest.bench.meter import Meter, Rate
from loadtest.queue_node import wire
from loadtest.queue_node.client import NodeClient
from loadtest.queue_node.process import QueueNodeProcess

FUNCTIONS = ("f0", "f1", "f2", "f3")
PAYLOAD_BYTES = 200
BATCH_EVENTS = 100


async def measure(events: int, shards: int, *, payload_bytes: int = PAYLOAD_BYTES) -> dict[str, Rate]:
    """`accept` alone, `drain` (lease + ack of that), `through` (enqueue + lease + ack at the same time)."""
    folder = Path(tempfile.mkdtemp(prefix="evenflow-node-", dir="/tmp"))
    try:
        async with QueueNodeProcess(folder, shards) as node:
            assert node.peer is not None
            client = NodeClient(node.peer)
            batches, settlements = wire.EventBatches(FUNCTIONS, payload_bytes), wire.succeeded()
            shard_ids = range(shards)

            async def timed(work: Awaitable[object]) -> Rate:
                meter = Meter(lambda: {"queue": processes.cpu_seconds(node.pid)})
                await work
                return meter.stop(events)

            def enqueue() -> Awaitable[None]:
                return client.enqueue(batches, shard_ids, events, BATCH_EVENTS)

            return {
                "accept": await timed(enqueue()),
                "drain": await timed(client.consume(events, settlements)),
                "through": await timed(asyncio.gather(enqueue(), client.consume(events, settlements))),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
