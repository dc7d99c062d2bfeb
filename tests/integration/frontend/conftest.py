"""A whole frontend in this process, between a fake queue node and a fake runtime host on real sockets."""

import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import grpc
import pytest
from botocore.config import Config
from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.frontend.frontend import SERVICE_NAME, Frontend
from services.frontend.settings import FrontendSettings
from services.shared.channels import TOKEN_KEY, GrpcServer, Peer
from services.shared.clock import SystemClock
from services.shared.config_view import ConfigView
from services.shared.metrics import Metrics
from services.shared.tracing import Tracer
from tests.kit.fake_queue_node import FakeQueueNode
from tests.kit.fake_runtime_host import FakeRuntimeHost
from tests.kit.waiting import eventually

_config: Any = Config
TOKEN = "t" * 40
ACCESS_KEY = "AKIAOTHERTENANT00001"


class StaticConfiguration:
    """A configuration that a test changes by hand; `in_control` are functions that only asking finds."""

    def __init__(self) -> None:
        self.view = ConfigView()
        self.in_control: dict[tuple[str, str], resources_pb2.Function] = {}
        self.asked: list[tuple[str, str]] = []
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._subscribers.append(callback)

    def put(self, *resources: resources_pb2.Resource) -> None:
        for resource in resources:
            self.view.upsert(resource)
        for callback in self._subscribers:
            callback()

    async def ask_function(self, tenant_id: str, function_name: str) -> resources_pb2.Function | None:
        self.asked.append((tenant_id, function_name))
        return self.in_control.get((tenant_id, function_name))


def make_function(name: str, tenant_id: str = "default", **more: Any) -> resources_pb2.Function:
    latest = resources_pb2.FunctionVersion(version="$LATEST", timeout_ms=3_000)
    return resources_pb2.Function(tenant_id=tenant_id, function_name=name, revision=1, latest=latest, **more)


def resource(**kind: Any) -> resources_pb2.Resource:
    (name, value), *_ = kind.items()
    key = name
    if name == "member":
        key = f"member/{value.node_id}"
    elif name == "function":
        key = f"function/{value.tenant_id}/{value.function_name}"
    return resources_pb2.Resource(key=key, **kind)


def shard_map(owners: list[str], epoch: int = 1) -> resources_pb2.Resource:
    return resource(shard_map=resources_pb2.ShardMap(epoch=epoch, owner_node_ids=owners))


class TestNode:
    """What services.shared.node.Node gives, without control."""

    __test__ = False

    def __init__(self, settings: FrontendSettings, metrics: Metrics, exporter: InMemorySpanExporter) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.token = TOKEN
        self.incarnation = "test"
        self.tracer = Tracer("frontend", settings, self.clock, exporter)
        self.metrics = metrics
        self.follower = StaticConfiguration()
        self.server = GrpcServer(TOKEN, [SERVICE_NAME])
        self._peers: dict[str, Peer] = {}

    def dial(self, target: str) -> Peer:
        return self._peers.setdefault(target, Peer.dial(target, TOKEN))

    async def start_following(self) -> None:
        return

    async def start(self) -> None:
        self.server.bind(self.settings.listen_address)
        await self.server.start()

    async def drain(self) -> None:
        await self.server.set_serving(False)

    async def stop(self) -> None:
        await self.server.stop(0)
        for peer in self._peers.values():
            await peer.close()
        self.tracer.shutdown()


@dataclasses.dataclass
class Rig:
    """Everything a test needs."""

    frontend: Frontend
    node: TestNode
    queue: FakeQueueNode
    runtime: FakeRuntimeHost
    spans: InMemorySpanExporter
    # Typed as the synchronous stubs are, which these are not.
    public: Any
    inner: Any
    fleet_metadata: tuple[tuple[str, str], ...] = ((TOKEN_KEY, TOKEN),)

    @property
    def configuration(self) -> StaticConfiguration:
        return self.node.follower

    def boto(
        self, access_key: str = "AKIAUNKNOWN000000000", secret: str = "secret", token: str | None = None, **config: Any
    ) -> Any:
        make: Any = boto3.client
        return make(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{self.frontend.http.port}",
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=_config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20, **config),
        )

    async def until_healthy(self, shards: int = 4) -> None:
        await eventually(lambda: len(self.frontend.accepter.depths.healthy) == shards)


@pytest.fixture(scope="session")
def metrics() -> Iterator[Metrics]:
    """One a process, as the class says."""
    folder = tempfile.mkdtemp(prefix="ef-")
    settings = FrontendSettings(node_id="frontend-0", data_dir=folder, run_dir=folder, token_file="")
    made = Metrics("frontend", settings)
    yield made
    made.shutdown()


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Settings that a test module changes."""
    return {}


@pytest.fixture
async def rig(run_dir: Path, metrics: Metrics, overrides: dict[str, Any]) -> AsyncIterator[Rig]:
    """As `serving_frontend`, for one test."""
    async with serving_frontend(run_dir, metrics, overrides) as made:
        yield made


@contextlib.asynccontextmanager
async def serving_frontend(run_dir: Path, metrics: Metrics, overrides: dict[str, Any]) -> AsyncIterator[Rig]:
    """A serving frontend with 4 shards on one queue node and one runtime host."""
    values: dict[str, Any] = {
        "node_id": "frontend-0",
        "data_dir": str(run_dir),
        "run_dir": str(run_dir),
        "token_file": "",
        "http_listen": "127.0.0.1:0",
        "grpc_listen": "127.0.0.1:0",
        "hold_ms": 400,
        "resend_ms": 600,
        "place_ms": 400,
        **overrides,
    }
    settings = FrontendSettings(**values)
    spans = InMemorySpanExporter()
    node = TestNode(settings, metrics, spans)
    queue, runtime = FakeQueueNode(run_dir / "q.sock", TOKEN), FakeRuntimeHost(run_dir / "r.sock", TOKEN)
    await queue.start()
    await runtime.start()
    member = resources_pb2.Member
    alive = resources_pb2.MEMBER_STATE_ALIVE
    key = resources_pb2.AccessKey(access_key_id=ACCESS_KEY)
    node.follower.put(
        resource(fleet=resources_pb2.Fleet(account_id="123456789012", region="us-east-1")),
        resource(tenant=resources_pb2.Tenant(tenant_id="other", access_keys=[key])),
        resource(function=make_function("echo")),
        resource(function=make_function("theirs", "other")),
        resource(
            member=member(node_id="queue-0", role=resources_pb2.NODE_ROLE_QUEUE, address=queue.address, state=alive)
        ),
        resource(
            member=member(
                node_id="runtime-0", role=resources_pb2.NODE_ROLE_RUNTIME, address=runtime.address, state=alive
            )
        ),
        shard_map(["queue-0"] * 4),
    )
    frontend = Frontend(settings, node)
    await frontend.start()
    public_channel = grpc.aio.insecure_channel(f"127.0.0.1:{frontend.grpc_port}")
    inner_channel = grpc.aio.insecure_channel(settings.listen_address)
    made = Rig(
        frontend,
        node,
        queue,
        runtime,
        spans,
        frontend_pb2_grpc.FrontendServiceStub(public_channel),
        frontend_pb2_grpc.FrontendServiceStub(inner_channel),
    )
    await made.until_healthy()
    yield made
    await public_channel.close()
    await inner_channel.close()
    await frontend.stop()
    await queue.stop()
    await runtime.stop()
