"""A queue node without the rest of a fleet: real shards and servicer in a process of their own, a fixed shard map.

`python -m loadtest.queue_node.process FOLDER SHARDS` serves on FOLDER/q.sock until SIGTERM.
"""

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from loadtest.bench.processes import Child
from services.queue.service import SERVICE_NAME, QueueService, register
from services.queue.settings import QueueSettings
from services.queue.shards import Shards
from services.shared import lifecycle
from services.shared.channels import GrpcServer, Peer
from services.shared.clock import SystemClock

NODE_ID = "queue-0"
TOKEN = "bench-" + "0" * 32
START_SECONDS = 60.0
_GRACE_SECONDS = 0.1


class QueueNodeProcess:
    """The node as a child of ours; an async context."""

    def __init__(self, folder: Path, shards: int) -> None:
        self._folder = folder
        self._shards = shards
        self._child: Child | None = None
        self.peer: Peer | None = None

    async def __aenter__(self) -> "QueueNodeProcess":
        command = [sys.executable, "-m", "loadtest.queue_node.process", str(self._folder), str(self._shards)]
        self._child = await Child.start("queue node", command, self._folder / "node.log")
        self.peer = Peer.dial(f"unix:{self._folder}/q.sock", TOKEN)
        async with asyncio.timeout(START_SECONDS):
            ready = asyncio.ensure_future(self.peer.channel.channel_ready())
            ended = asyncio.ensure_future(self._child.process.wait())
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            self._child.check_alive()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.peer is not None:
            await self.peer.close()
        if self._child is not None:
            await self._child.stop()

    @property
    def pid(self) -> int:
        """Of the node. RuntimeError: it is not running."""
        if self._child is None:
            raise RuntimeError("the node was not started")
        return self._child.pid


async def _serve(folder: str, shards: int) -> None:
    settings = QueueSettings(node_id=NODE_ID, data_dir=folder, run_dir=folder, token_file="")
    clock = SystemClock()
    node = Shards(settings, clock)
    service = QueueService(
        node, clock, node_id=NODE_ID, depth_interval_ms=50, pending_max_bytes=settings.pending_max_bytes
    )
    node.on_drained = service.note_drained
    await node.apply(1, [NODE_ID] * shards)
    server = GrpcServer(TOKEN, [SERVICE_NAME])
    register(service, server.server)
    server.bind(f"unix:{folder}/q.sock")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.start()
    lifecycle.spare_collector()
    await stop.wait()
    await server.stop(_GRACE_SECONDS)
    await node.stop()


if __name__ == "__main__":
    sys.setswitchinterval(lifecycle.SWITCH_INTERVAL_SECONDS)
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
