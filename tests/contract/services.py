"""Every service alone, its neighbours fakes or absent, and the fakes that stand for it: each serves real gRPC."""

import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from evenflow.control.v1 import control_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2_grpc

from loadtest.stand_in_control import StandInControl
from services.frontend.settings import FrontendSettings
from services.poller.poller import Poller
from services.poller.settings import PollerSettings
from services.runtime.service import RuntimeServicer
from services.shared.channels import GrpcServer
from services.shared.clock import SystemClock
from services.shared.metrics import Metrics
from tests.contract.kit import End, dial
from tests.contract.queue import nodes
from tests.integration.control.kit import TOKEN as CONTROL_TOKEN
from tests.integration.control.kit import running
from tests.integration.frontend.conftest import TOKEN as DOOR_TOKEN
from tests.integration.frontend.conftest import serving_frontend
from tests.integration.runtime.kit import PatientHost
from tests.kit.fake_runtime_host import FakeRuntimeHost
from tests.kit.queue_node_here import TOKEN as QUEUE_TOKEN
from tests.kit.scripted_control import TOKEN as SCRIPTED_TOKEN
from tests.kit.scripted_control import scripted_control

TOKEN = "t" * 40
# Beyond a function's timeout, until a caller whose run says nothing is answered.
RUN_MARGIN_MS = 2_000
SOURCES = {
    "echo": "def handler(event, context):\n    return event\n",
    "fails": "def handler(event, context):\n    raise ValueError('no')\n",
    "waits": "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n",
}


@contextlib.asynccontextmanager
async def end_at(service: str, target: str, token: str, has: Any = None) -> AsyncIterator[End]:
    """The service at this address. `has`: what a test may look at beside its answers."""
    peer = dial(target, token)
    try:
        yield End(service, peer, has=has)
    finally:
        await peer.close()


@contextlib.asynccontextmanager
async def queue(folder: Path, kind: str) -> AsyncIterator[End]:
    """The node without control, or the fake."""
    async with nodes.NODES[kind](folder) as target, end_at("QueueService", target, QUEUE_TOKEN) as end:
        yield end


@contextlib.asynccontextmanager
async def runtime(folder: Path, kind: str) -> AsyncIterator[End]:
    """A host of sandboxes with the functions of SOURCES, without control; or the fake, which only plays them."""
    if kind == "fake":
        fake = FakeRuntimeHost(folder / "r.sock", TOKEN, credit=20)
        await fake.start()
        async with end_at("RuntimeService", fake.address, TOKEN, fake) as end:
            yield end
        await fake.stop()
        return
    async with PatientHost(folder, max_sandboxes=4, memory_mb=1_024) as host:
        for name, source in SOURCES.items():
            host.deploy(name, source)
        server = GrpcServer(TOKEN, ["evenflow.runtime.v1.RuntimeService"])
        runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(RuntimeServicer(host.host, SystemClock()), server.server)
        server.bind(f"unix:{folder}/r.sock")
        await server.start()
        async with end_at("RuntimeService", f"unix:{folder}/r.sock", TOKEN, host) as end:
            yield end
        await server.stop(0)


@contextlib.asynccontextmanager
async def control(folder: Path, kind: str) -> AsyncIterator[End]:
    """Control, the one that tests script, or the one that stands in for a host."""
    if kind == "scripted":
        with scripted_control(folder) as scripted:
            async with end_at("ControlService", scripted.target, SCRIPTED_TOKEN, scripted) as end:
                yield end
        return
    if kind == "stand-in":
        stand_in = StandInControl({"account": 50})
        async with (
            serving_control(folder, stand_in) as target,
            end_at("ControlService", target, TOKEN, stand_in) as end,
        ):
            yield end
        return
    async with (
        running(folder) as real,
        end_at("ControlService", f"unix:{folder}/control.sock", CONTROL_TOKEN, real) as end,
    ):
        yield end


@contextlib.asynccontextmanager
async def serving_control(folder: Path, stand_in: StandInControl) -> AsyncIterator[str]:
    """The stand-in behind the fleet's token; its address."""
    server = GrpcServer(TOKEN, ["evenflow.control.v1.ControlService"])
    control_pb2_grpc.add_ControlServiceServicer_to_server(stand_in, server.server)
    server.bind(f"unix:{folder}/control.sock")
    await server.start()
    try:
        yield f"unix:{folder}/control.sock"
    finally:
        await server.stop(0)


@functools.cache
def door_metrics() -> Metrics:
    """Instruments are made once a process."""
    return Metrics("frontend", FrontendSettings(node_id="frontend-0", data_dir="/tmp", run_dir="/tmp", token_file=""))


@contextlib.asynccontextmanager
async def frontend(folder: Path, _kind: str) -> AsyncIterator[End]:
    """The inner door of a frontend between a fake queue node and a fake runtime host."""
    async with (
        serving_frontend(folder, door_metrics(), {"run_margin_ms": RUN_MARGIN_MS}) as rig,
        end_at("FrontendService", f"unix:{folder}/frontend-0.sock", DOOR_TOKEN, rig) as end,
    ):
        yield end


@contextlib.asynccontextmanager
async def poller(folder: Path, _kind: str) -> AsyncIterator[End]:
    """A poller of a fleet that has control and nothing else."""
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    async with serving_control(folder, StandInControl({})):
        settings = PollerSettings(node_id="poller-0", data_dir=str(folder), run_dir=str(folder), token_file=str(token))
        made = Poller(settings)
        await made.start()
        async with end_at("PollerService", f"unix:{folder}/poller-0.sock", TOKEN, made) as end:
            yield end
        await made.drain()
        await made.stop()


SERVICES: dict[str, tuple[Callable[[Path, str], Any], tuple[str, ...]]] = {
    "QueueService": (queue, ("real", "fake")),
    "RuntimeService": (runtime, ("real", "fake")),
    "ControlService": (control, ("real", "scripted", "stand-in")),
    "FrontendService": (frontend, ("real",)),
    "PollerService": (poller, ("real",)),
}


@contextlib.asynccontextmanager
async def serving(service: str, kind: str = "real") -> AsyncIterator[End]:
    """This one, until the end, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ef-", dir="/tmp") as folder:
        async with SERVICES[service][0](Path(folder), kind) as end:
            end.kind = kind
            yield end
