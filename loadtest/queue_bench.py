"""How fast one queue node is: durable accept, and enqueue + lease + ack, over real gRPC to a real process.

`python -m loadtest.queue_bench`: one shard by default; client and node share the machine's cores.
"""

import argparse
import asyncio
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop
from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.shared import ids
from services.shared.channels import GrpcServer, Peer

TOKEN = "bench-" + "0" * 32
BATCHES_IN_FLIGHT = 32
CREDIT_EVENTS = 4_000
CREDIT_BYTES = 16 << 20
AGE_MS = 3_600_000
SERVICE_NAME = "evenflow.queue.v1.QueueService"


def serve(folder: str, shards: int, profile: str) -> None:
    """The node's process: real shards and servicer, a fixed shard map. Ends with its parent's pipe."""
    import cProfile
    import sys

    sys.setswitchinterval(0.001)
    profiler = cProfile.Profile() if profile else None
    if profiler is not None:
        profiler.enable()
    uvloop.run(_serve(folder, shards))
    if profiler is not None:
        profiler.disable()
        profiler.dump_stats(profile)


async def _serve(folder: str, shards: int) -> None:
    from services.queue.service import QueueService
    from services.queue.settings import QueueSettings
    from services.queue.shards import Shards
    from services.shared.clock import SystemClock

    settings = QueueSettings(node_id="queue-0", data_dir=folder, run_dir=folder, token_file="")
    clock = SystemClock()
    node = Shards(settings, clock)
    service = QueueService(
        node, clock, node_id="queue-0", depth_interval_ms=50, pending_max_bytes=settings.pending_max_bytes
    )
    node.on_drained = service.note_drained
    await node.apply(1, ["queue-0"] * shards)
    server = GrpcServer(TOKEN, [SERVICE_NAME])
    queue_pb2_grpc.add_QueueServiceServicer_to_server(service, server.server)
    server.bind(f"unix:{folder}/q.sock")
    await server.start()
    stop = Path(folder) / "stop"
    # A file, not a signal: the process also runs under a profiler, which must end in order.
    while not stop.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await server.stop(0.1)
    await node.stop()


class Client:
    """Streams of one client."""

    def __init__(self, folder: str, shards: int, payload_bytes: int) -> None:
        self.peer = Peer.dial(f"unix:{folder}/q.sock", TOKEN)
        self.stub: Any = queue_pb2_grpc.QueueServiceStub(self.peer.channel)
        self._shards = shards
        self._payload = b'"' + b"x" * (payload_bytes - 2) + b'"'
        self.done = 0

    def batch(self, number: int, size: int) -> queue_pb2.EnqueueRequest:
        """One batch of fresh events for one shard."""
        now_ms = time.time_ns() // 1_000_000
        shard_id = number % self._shards
        request = queue_pb2.EnqueueRequest(batch_id=number, shard_map_epoch=1, shard_id=shard_id)
        for index in range(size):
            request.events.add(
                tenant_id="default",
                function_name=f"f{index % 4}",
                qualifier="$LATEST",
                request_id=ids.mint(now_ms, shard_id),
                payload=self._payload,
                accepted_at_ms=now_ms,
                expires_at_ms=now_ms + AGE_MS,
                trace=event_pb2.TraceContext(traceparent=f"00-{'a' * 32}-{'b' * 16}-00"),
            )
        return request

    async def enqueue(self, events: int, size: int) -> None:
        """Send so many events in batches, a bounded number in flight; until all are answered."""
        call = self.stub.Enqueue(metadata=self.peer.metadata)
        room = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        batches = events // size

        async def read() -> None:
            for _ in range(batches):
                response = await call.read()
                assert response is not grpc.aio.EOF and not response.HasField("refusal"), response
                room.release()

        reader = asyncio.create_task(read())
        for number in range(1, batches + 1):
            await room.acquire()
            await call.write(self.batch(number, size))
        await reader
        await call.done_writing()

    async def consume(self, events: int) -> None:
        """Lease and acknowledge so many events."""
        lease = self.stub.Lease(metadata=self.peer.metadata)
        settle = self.stub.Settle(metadata=self.peer.metadata)
        hello = queue_pb2.LeaseHello(poller_id="poller-0", incarnation=ids.new_incarnation(), shard_map_epoch=1)
        await lease.write(queue_pb2.LeaseRequest(hello=hello))
        credit = queue_pb2.LeaseCredit(events=CREDIT_EVENTS, bytes=CREDIT_BYTES)
        await lease.write(queue_pb2.LeaseRequest(credit=credit))

        async def read_settled() -> None:
            while self.done < events:
                response = await settle.read()
                assert response is not grpc.aio.EOF and not response.refusals, response
                self.done += sizes.pop(response.batch_id)

        sizes: dict[int, int] = {}
        reader = asyncio.create_task(read_settled())
        leased = 0
        number = 0
        while leased < events:
            response = await lease.read()
            assert response is not grpc.aio.EOF
            number += 1
            leased += len(response.leases)
            sizes[number] = len(response.leases)
            request = queue_pb2.SettleRequest(batch_id=number, shard_map_epoch=1)
            now_ms = time.time_ns() // 1_000_000
            for one in response.leases:
                settlement = request.settlements.add(
                    ack=queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS),
                    attempt=queue_pb2.AttemptRecord(
                        started_at_ms=now_ms,
                        duration_us=1_000,
                        status=event_pb2.OUTCOME_STATUS_SUCCEEDED,
                        executed_version="$LATEST",
                        sandbox_id="runtime-0/1",
                    ),
                )
                settlement.receipt.CopyFrom(one.receipt)
            await settle.write(request)
            back = queue_pb2.LeaseCredit(events=len(response.leases), bytes=response.ByteSize())
            await lease.write(queue_pb2.LeaseRequest(credit=back))
        await reader
        lease.cancel()
        settle.cancel()


async def run(
    events: int = 100_000, batch: int = 100, shards: int = 1, payload_bytes: int = 200, profile: str = ""
) -> dict[str, float]:
    """Measure and return events a second: `accept` alone, `drain` (lease + ack of that), `through` (all at once)."""
    folder = tempfile.mkdtemp(prefix="ef-", dir="/tmp")
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, shards, profile), daemon=True)
    process.start()
    try:
        client = Client(folder, shards, payload_bytes)
        # Inside the window of the client's process the node imports and opens its shards.
        await asyncio.wait_for(client.peer.channel.channel_ready(), 30)
        found: dict[str, float] = {}
        started = time.perf_counter()
        await client.enqueue(events, batch)
        found["accept"] = events / (time.perf_counter() - started)
        started = time.perf_counter()
        await client.consume(events)
        found["drain"] = events / (time.perf_counter() - started)
        client.done = 0
        started = time.perf_counter()
        await asyncio.gather(client.enqueue(events, batch), client.consume(events))
        found["through"] = events / (time.perf_counter() - started)
        await client.peer.close()
    finally:
        (Path(folder) / "stop").touch()
        process.join(10)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({name: round(rate) for name, rate in found.items()}))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--profile", default="", help="where to write the node's cProfile statistics")
    given = parser.parse_args()
    uvloop.run(run(given.events, given.batch, given.shards, profile=given.profile))
