"""A queue node for the recorder: real shards, writers and service behind gRPC, told what to do by lines on stdin.

`python -m tests.faults.power_loss.node FOLDER SHARDS [MUTANT]`. Each line is answered by "ok" on stdout:
`map N` serves N shards; `close` ends in order; `crash` ends at once, between two writes, and is not answered.
"""

import asyncio
import contextlib
import ctypes
import dataclasses
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import uvloop

from services.queue.service import SERVICE_NAME, QueueService, register
from services.queue.settings import QueueSettings
from services.queue.shards import Shards
from services.shared.channels import GrpcServer
from services.shared.clock import SystemClock
from tests.faults.power_loss import mutants

NODE_ID = "queue-0"
TOKEN = "power-loss-" + "0" * 32
# The folder whose writes are recorded; the node makes everything in it.
DISK = "disk"
SOCKET = "q.sock"
DEPTH_INTERVAL_MS = 50


def settings_for(disk: Path) -> QueueSettings:
    """A node on this disk: checkpoints and new tables of outcomes come often, a lease outlives a slow machine."""
    base = QueueSettings(node_id=NODE_ID, data_dir=str(disk / "data"), run_dir=str(disk.parent), token_file="")
    return dataclasses.replace(
        base,
        checkpoint_pages=24,
        reserve_bytes=65_536,
        outcome_max_rows=2_000,
        visibility_timeout_ms=60_000,
        depth_interval_ms=DEPTH_INTERVAL_MS,
    )


async def _serve(folder: Path, shard_count: int) -> None:
    clock = SystemClock()
    settings = settings_for(folder / DISK)
    shards = Shards(settings, clock)
    service = QueueService(
        shards,
        clock,
        node_id=NODE_ID,
        depth_interval_ms=DEPTH_INTERVAL_MS,
        pending_max_bytes=settings.pending_max_bytes,
    )
    shards.on_drained = service.note_drained
    await shards.apply(1, [NODE_ID] * shard_count)
    server = GrpcServer(TOKEN, [SERVICE_NAME])
    register(service, server.server)
    server.bind(f"unix:{folder / SOCKET}")
    await server.start()
    print("ok", flush=True)
    async with contextlib.aclosing(_lines()) as lines:
        async for line in lines:
            command, *arguments = line.split()
            if command == "map":
                await shards.apply(shards.epoch + 1, [NODE_ID] * int(arguments[0]))
            elif command == "crash":
                ctypes.CDLL(None).power_loss_crash()
            elif command == "close":
                break
            print("ok", flush=True)
    await server.stop(0.1)
    await shards.stop()


async def _lines() -> AsyncGenerator[str, None]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


if __name__ == "__main__":
    mutants.apply("".join(sys.argv[3:]))
    uvloop.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
