"""How fast queue nodes are by themselves, and what an event costs them."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from loadtest.bench import processes
from loadtest.bench.meter import Meter, Rate
from loadtest.queue_node import wire
from loadtest.queue_node.client import NodeClient
from loadtest.queue_node.process import QueueNodeProcess

FUNCTIONS = ("f0", "f1", "f2", "f3")
PAYLOAD_BYTES = 200
BATCH_EVENTS = 100


async def measure(events: int, nodes: int, shards: int) -> dict[str, Rate]:
    """`accept` alone, `drain` (lease + ack of that), `through` (enqueue + lease + ack at the same time).

    `events`: of each stretch, divided among the nodes; `shards`: of each node.
    """
    folder = Path(tempfile.mkdtemp(prefix="evenflow-node-", dir="/tmp"))
    part = events // nodes // BATCH_EVENTS * BATCH_EVENTS
    batches, settlements = wire.EventBatches(FUNCTIONS, PAYLOAD_BYTES), wire.succeeded()
    try:
        async with AsyncExitStack() as stack:
            started: list[tuple[QueueNodeProcess, NodeClient]] = []
            for number in range(nodes):
                place = folder / str(number)
                place.mkdir()
                node = await stack.enter_async_context(QueueNodeProcess(place, shards))
                assert node.peer is not None
                started.append((node, NodeClient(node.peer)))

            async def timed(*kinds: Callable[[NodeClient], Awaitable[None]]) -> Rate:
                meter = Meter(lambda: {"queue": sum(processes.cpu_seconds(node.pid) for node, _ in started)})
                await asyncio.gather(*(kind(client) for _, client in started for kind in kinds))
                return meter.stop(part * nodes)

            def enqueue(client: NodeClient) -> Awaitable[None]:
                return client.enqueue(batches, range(shards), part, BATCH_EVENTS)

            def consume(client: NodeClient) -> Awaitable[None]:
                return client.consume(part, settlements)

            return {
                "accept": await timed(enqueue),
                "drain": await timed(consume),
                "through": await timed(enqueue, consume),
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
