"""The steps: functions deployed from one package, invoked in turn through the HTTP door, what came of it counted."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from cli import fleet_file
from cli.scrape import Samples, scrape, total
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.http_client import CONNECT_SECONDS, HttpLoadError, invoke_request, whole_response_bytes
from services.shared.channels import read_token

MEMORY_MB = 128
HOST_NODE = "runtime-0"
ANSWER_SECONDS = 60.0
WATCH_SECONDS = 0.25
_READ_BYTES = 65_536
_SOURCE = "def handler(event, context):\n    return context.function_name\n"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many functions, memory for how many sandboxes, how often each function is invoked, how many at once."""

    functions: int
    sandboxes: int
    rounds: int
    in_flight: int

    @property
    def budget_mb(self) -> int:
        """What runtime.memory_mb is set to."""
        return self.sandboxes * MEMORY_MB


@dataclass(slots=True)
class Found:
    """What came out. round_trip_ms: of every invocation, in order of its end. evictions: by cause."""

    deploy_seconds: float = 0.0
    seconds: float = 0.0
    round_trip_ms: list[float] = field(default_factory=list)
    cold_starts: int = 0
    evictions: dict[str, int] = field(default_factory=dict)
    most_memory_mb: int = 0


class WrongAnswer(RuntimeError):
    """An invocation did not give what its function returns."""


def name_of(number: int) -> str:
    """The functions' names."""
    return f"many-{number:04}"


def write_functions(folder: Path, functions: int) -> None:
    """So many functions of one package, as a folder that `evenflow deploy` takes."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "app.py").write_text(_SOURCE)
    entry = '[[functions]]\nname = "{}"\ncode = "code"\nhandler = "app.handler"\nmemory_mb = {}\n'
    (folder / "evenflow.toml").write_text("\n".join(entry.format(name_of(n), MEMORY_MB) for n in range(functions)))


async def run(fleet: EvenflowFleet, sizes: Sizes, say: Say) -> Found:
    """Everything, in order. WrongAnswer, HttpLoadError: an invocation failed."""
    found = Found()
    write_functions(fleet.folder / "many", sizes.functions)
    began = time.perf_counter()
    await fleet.deploy_folder(fleet.folder / "many")
    found.deploy_seconds = time.perf_counter() - began
    say(f"{sizes.functions} functions deployed in {found.deploy_seconds:.1f} s")
    watching = asyncio.create_task(_watch_memory(fleet, found))
    before = await asyncio.to_thread(_samples, fleet)
    began = time.perf_counter()
    names = itertools.chain.from_iterable(map(name_of, range(sizes.functions)) for _ in range(sizes.rounds))
    async with asyncio.TaskGroup() as clients:
        for _ in range(sizes.in_flight):
            clients.create_task(_client(fleet, names, found))
    found.seconds = time.perf_counter() - began
    watching.cancel()
    after = await asyncio.to_thread(_samples, fleet)
    found.cold_starts = int(total(after, "evenflow_cold_starts_total") - total(before, "evenflow_cold_starts_total"))
    for (name, labels), value in after.items():
        if name == "evenflow_sandbox_evictions_total":
            found.evictions[dict(labels)["cause"]] = int(value)
    return found


async def _client(fleet: EvenflowFleet, names: Iterator[str], found: Found) -> None:
    """One connection that takes the next function in turn as soon as its last answer is whole."""
    async with asyncio.timeout(CONNECT_SECONDS):
        reader, writer = await asyncio.open_connection(fleet.host, fleet.http_port)
    try:
        for name in names:
            began = time.perf_counter()
            writer.write(invoke_request(fleet.host, name, b"null", "RequestResponse"))
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await _answer(reader)
            found.round_trip_ms.append((time.perf_counter() - began) * 1_000)
            head, _, body = answer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200") or body != json.dumps(name).encode():
                raise WrongAnswer(f"{name} answered {answer[:400]!r}")
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while not whole_response_bytes(data):
        part = await reader.read(_READ_BYTES)
        if not part:
            raise HttpLoadError("the door hung up")
        data += part
    return data


async def _watch_memory(fleet: EvenflowFleet, found: Found) -> None:
    """By the host's list of its sandboxes: to read a thousand functions' metrics again and again would slow it down."""
    peer = fleet.peer(HOST_NODE)
    stub = runtime_pb2_grpc.RuntimeServiceStub(peer.channel)
    while True:
        described = await stub.DescribeHost(runtime_pb2.DescribeHostRequest(), metadata=peer.metadata)
        found.most_memory_mb = max(found.most_memory_mb, len(described.sandboxes) * MEMORY_MB)
        await asyncio.sleep(WATCH_SECONDS)


def _samples(fleet: EvenflowFleet) -> Samples:
    """The host's metrics, from its endpoint."""
    running = fleet_file.running(fleet.data)
    return scrape(running.nodes[HOST_NODE].metrics_socket, read_token(running.token_file))
