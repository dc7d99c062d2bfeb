"""kill -9 of a queue node that a million events wait in."""

import contextlib
from collections.abc import Iterator

from loadtest.queue_node.client import NodeClient
from loadtest.queue_node.wire import EventBatches
from services.shared.channels import Peer, read_token
from tests.faults.matrix import functions, loop
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.probe import pause
from tests.faults.matrix.rig import Rig

NODE = "queue-0"
EVENTS = 1_000_000
PAYLOAD_BYTES = 200
BATCH_EVENTS = 100
FILL_SECONDS = 300.0
KILLS = 2
BETWEEN_EVENTS = 200
# What the issue allows.
BOUND_SECONDS = 3.0


@contextlib.contextmanager
def _a_million(rig: Rig) -> Iterator[None]:
    """Events of a function that the pollers were told to leave, all of them in one node."""
    rig.fleet.deploy(functions.STANDING, "def handler(event, context): return 1")
    loop.run(_fill(rig), FILL_SECONDS)
    rig.standing = EVENTS
    yield


async def _fill(rig: Rig) -> None:
    await pause(rig.fleet, functions.STANDING)
    peer = Peer.dial(rig.fleet.file.nodes[NODE].target, read_token(rig.fleet.file.token_file))
    try:
        node = NodeClient(peer)
        shard_ids = [shard.depth.shard_id for shard in await node.describe()]
        await node.enqueue(EventBatches((functions.STANDING,), PAYLOAD_BYTES), shard_ids, EVENTS, BATCH_EVENTS)
    finally:
        await peer.close()


def _kill(rig: Rig) -> None:
    with rig.calm():
        for _ in range(KILLS):
            rig.kill(NODE)
            rig.wait_acked(BETWEEN_EVENTS)


CELLS = (
    Cell(
        "kill-queue-with-million",
        "a million events wait in it: all of them are there again, soon",
        _kill,
        around=_a_million,
        bound_seconds=BOUND_SECONDS,
    ),
)
