"""A real queue node in a process of its own, real frontends' way in to it, and a look at its depths."""

import asyncio
import dataclasses
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from evenflow.control.v1 import control_pb2_grpc, resources_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from loadtest.placement.variants import Variant, draw_of
from loadtest.simulate.traffic import Traffic, tenant_name
from loadtest.stand_in_control import StandInControl
from services.frontend.accept import Accepter
from services.frontend.queue_fleet import QueueFleet
from services.frontend.settings import FrontendSettings
from services.shared.channels import GrpcServer, Peer
from services.shared.clock import SystemClock
from services.shared.config_view import ConfigView
from services.shared.tracing import Tracer

NODE_ID = "queue-0"
READY_SECONDS = 60.0
STOP_SECONDS = 20.0
CALL_SECONDS = 10.0
POLL_SECONDS = 0.005
# A slow disk is no reason to place an event elsewhere.
PATIENCE_MS = 30_000
# Longer than any drain.
LEASE_MS = 600_000


class NotInTime(RuntimeError):
    """Something did not happen within its bound; the message says what."""


class QueueProcess:
    """`python -m services.queue` with so many shards, following a control of a few lines."""

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder = folder
        self.shards = shards
        self.token = secrets.token_hex(32)
        self.shard_map = resources_pb2.ShardMap(epoch=1, owner_node_ids=[NODE_ID] * shards)
        self.address = f"unix:{folder}/{NODE_ID}.sock"
        self._control = StandInControl({})
        self._control.resources.append(resources_pb2.Resource(key="shard-map", shard_map=self.shard_map))

    async def start(self, stack: AsyncExitStack) -> None:
        """Serve; `stack` ends it. NotInTime: not within READY_SECONDS."""
        token_file = self.folder / "token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        server = GrpcServer(self.token, ["evenflow.control.v1.ControlService"])
        control_pb2_grpc.add_ControlServiceServicer_to_server(self._control, server.server)
        server.bind(f"unix:{self.folder}/control.sock")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        environment = {
            **os.environ,
            "EVENFLOW_NODE_ID": NODE_ID,
            "EVENFLOW_DATA_DIR": str(self.folder / "data"),
            "EVENFLOW_RUN_DIR": str(self.folder),
            "EVENFLOW_TOKEN_FILE": str(token_file),
            "EVENFLOW_LOG_LEVEL": "warning",
            "EVENFLOW_QUEUE_VISIBILITY_TIMEOUT_MS": str(LEASE_MS),
            "EVENFLOW_SUPERVISOR_PID": str(os.getpid()),
        }
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "services.queue", env=environment)
        stack.push_async_callback(_end, process)
        self.peer = Peer.dial(self.address, self.token)
        stack.push_async_callback(self.peer.close)
        self.stub: Any = queue_pb2_grpc.QueueServiceStub(self.peer.channel)
        async with asyncio.timeout(READY_SECONDS):
            await self.peer.channel.channel_ready()

    async def depths(self) -> list[int]:
        """Every shard's depth, as the queue node itself tells it."""
        described = await self.stub.DescribeShards(
            queue_pb2.DescribeShardsRequest(), metadata=self.peer.metadata, timeout=CALL_SECONDS
        )
        found = [0] * self.shards
        for shard in described.shards:
            found[shard.depth.shard_id] = shard.depth.depth
        return found

    async def wait_depth(self, total: int) -> list[int]:
        """The depths once they sum up to `total`. NotInTime: they do not within CALL_SECONDS."""
        deadline = time.monotonic() + CALL_SECONDS
        while sum(found := await self.depths()) != total:
            if time.monotonic() > deadline:
                raise NotInTime(f"the queue tells {sum(found)} events instead of {total}: {found}")
            await asyncio.sleep(POLL_SECONDS)
        return found


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class _Configuration:
    """What a frontend knows of the fleet; it does not change during a run."""

    def __init__(self, queue: QueueProcess, quotas: dict[str, int]) -> None:
        self.view = ConfigView()
        member = resources_pb2.Member(
            node_id=NODE_ID,
            role=resources_pb2.NODE_ROLE_QUEUE,
            address=queue.address,
            state=resources_pb2.MEMBER_STATE_ALIVE,
        )
        self.view.upsert(resources_pb2.Resource(key=f"member/{NODE_ID}", member=member))
        self.view.upsert(resources_pb2.Resource(key="shard-map", shard_map=queue.shard_map))
        for name, millionths in quotas.items():
            tenant = resources_pb2.Tenant(tenant_id=name, quota_millionths=millionths)
            self.view.upsert(resources_pb2.Resource(key=f"tenant/{name}", tenant=tenant))

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Nothing to tell."""

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        """Not needed behind the doors."""
        return None


@asynccontextmanager
async def frontend(
    queue: QueueProcess, variant: Variant, traffic: Traffic, number: int, tracer: Tracer
) -> AsyncIterator[Accepter]:
    """A frontend's own accept path with streams of its own to the queue node, once every shard is healthy.

    number: which of the variant's frontends; each draws by itself, from the traffic's seed.
    """
    name, count = variant.settings
    folder = str(queue.folder)
    settings = FrontendSettings(
        node_id=f"frontend-{number}",
        data_dir=folder,
        run_dir=folder,
        token_file="",
        shard_choice=name,
        shard_choice_d=count,
        choice_run=variant.choice_run,
        hold_ms=PATIENCE_MS,
        resend_ms=PATIENCE_MS,
    )
    quotas: dict[str, int] = {}
    if variant.tells_quotas:
        quotas = {tenant_name(i): traffic.quota_millionths(i) for i in set(traffic.arrivals)}
    configuration = _Configuration(queue, quotas)
    clock = SystemClock()
    accepter = Accepter(settings, clock, tracer, lambda: configuration.view, draw_of(traffic.seed, number))
    peer = Peer.dial(queue.address, queue.token)
    fleet = QueueFleet(settings, clock, configuration, lambda _target: peer, accepter)
    fleet.start()
    try:
        deadline = time.monotonic() + CALL_SECONDS
        while len(accepter.depths.healthy) < queue.shards:
            if time.monotonic() > deadline:
                raise NotInTime(f"{len(accepter.depths.healthy)} of {queue.shards} shards are healthy")
            await asyncio.sleep(POLL_SECONDS)
        yield accepter
    finally:
        await fleet.close()
        await peer.close()


def make_tracer(folder: Path) -> Tracer:
    """The frontends' tracer; no trace is kept, as in the benchmark's untraced fleet."""
    settings = FrontendSettings(
        node_id="frontend-0", data_dir=str(folder), run_dir=str(folder), token_file="", trace_per_second=0
    )
    return Tracer("frontend", dataclasses.replace(settings, trace_one_in=1_000_000_000), SystemClock())


@asynccontextmanager
async def queue_node(shards: int) -> AsyncIterator[QueueProcess]:
    """A running queue node in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="ef-", dir="/tmp") as folder:
        async with AsyncExitStack() as stack:
            queue = QueueProcess(Path(folder), shards)
            await queue.start(stack)
            yield queue
