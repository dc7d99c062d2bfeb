"""Evenflow as a user runs it: `evenflow up` as a child in a folder of its own, and `evenflow deploy`."""

import asyncio
import itertools
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from cli import fleet_file
from cli.supervisor.plan import PARENT_VARIABLE
from loadtest.bench import fleet_functions, pollers, processes
from loadtest.bench.processes import Child
from loadtest.bench.tick_reader import STALL_SECONDS, Stalled, TickReader
from services.shared.channels import Peer, read_token

HOST = "127.0.0.1"
TENANT = "default"
EVENFLOW = str(Path(sys.executable).parent / "evenflow")
START_SECONDS = 60.0
DEPLOY_SECONDS = 60.0
# The fleet drains within 10 s; then it is killed.
STOP_SECONDS = 20.0
_CALL_SECONDS = 10.0
_POLL_SECONDS = 0.005
_READY_POLL_SECONDS = 0.05
# Traces off: no trace is kept whole, and one in so many that none is met.
UNTRACED = ("--set", "trace.per_second=0", "--set", "trace.one_in=1000000000")


class EvenflowFleet:
    """One fleet; `start`, then `stop`."""

    def __init__(self, folder: Path, cold_functions: int, up_arguments: Sequence[str] = ()) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.cold_functions = cold_functions
        self.http_port = self.grpc_port = 0
        self.ready_seconds = 0.0
        self.ticks = TickReader(self.data / "buckets" / fleet_functions.BUCKET)
        self._up_arguments = tuple(up_arguments)
        self._child: Child | None = None
        self._peers: dict[str, Peer] = {}

    @classmethod
    async def started(
        cls, stack: AsyncExitStack, folder: Path, cold_functions: int = 0, up_arguments: Sequence[str] = ()
    ) -> "EvenflowFleet":
        """A fleet that is up, in a new folder, and is stopped with the stack; raises what `start` does."""
        folder.mkdir()
        fleet = cls(folder, cold_functions, up_arguments)
        # Before the start: one that fails or is interrupted is ended, too.
        stack.push_async_callback(fleet.stop)
        await fleet.start()
        return fleet

    @property
    def host(self) -> str:
        """Where the doors listen."""
        return HOST

    @property
    def grpc_address(self) -> str:
        """The gRPC door."""
        return f"{HOST}:{self.grpc_port}"

    def peer(self, node_id: str) -> Peer:
        """A node's inner socket, as the fleet's own commands reach it; once the fleet is up."""
        return self._peers[node_id]

    async def start(self) -> None:
        """Up, until it says ready. RuntimeError: it ended; TimeoutError: it never got ready."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data.chmod(0o700)
        self.http_port, self.grpc_port = _free_ports(2)
        command = [EVENFLOW, "up", "--data", str(self.data)]
        command += ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        command += self._up_arguments
        began = time.perf_counter()
        # Whatever becomes of us, the fleet ends with us.
        ours = {PARENT_VARIABLE: str(os.getpid())}
        self._child = await Child.start("evenflow up", command, self.folder / "up.log", ours)
        async with asyncio.timeout(START_SECONDS):
            while not any(line.startswith("ready ") for line in self._child.log.read_text().splitlines()):
                self._child.check_alive()
                await asyncio.sleep(_READY_POLL_SECONDS)
        self.ready_seconds = time.perf_counter() - began
        # Doors, shards and hosts are reached as the fleet's own commands reach them.
        running = fleet_file.running(self.data)
        token = read_token(running.token_file)
        self._peers = {name: Peer.dial(node.target, token) for name, node in running.nodes.items()}

    async def deploy(self) -> None:
        """Put the bench's functions on it. RuntimeError: refused."""
        source = self.folder / "functions"
        fleet_functions.write(source, self.cold_functions)
        await self.deploy_folder(source)

    async def deploy_folder(self, source: Path, within_seconds: float = DEPLOY_SECONDS) -> None:
        """Put the functions of a folder on it. RuntimeError: refused; TimeoutError."""
        command = [EVENFLOW, "deploy", str(source), "--data", str(self.data)]
        child = await Child.start("evenflow deploy", command, self.folder / "deploy.log")
        try:
            async with asyncio.timeout(within_seconds):
                code = await child.process.wait()
        finally:
            await child.stop()
        if code:
            raise RuntimeError(f"evenflow deploy ended with {code}: {child.explain()}")

    async def stop(self) -> None:
        """Drain it and wait for its end."""
        for peer in self._peers.values():
            await peer.close()
        self._peers.clear()
        if self._child is not None:
            await self._child.stop(within_seconds=STOP_SECONDS)
            self._child = None

    async def finished(self) -> int:
        """Events settled to an end since the fleet started."""
        total = 0
        for peer in self._of_role("queue"):
            described = await queue_pb2_grpc.QueueServiceStub(peer.channel).DescribeShards(
                queue_pb2.DescribeShardsRequest(), metadata=peer.metadata, timeout=_CALL_SECONDS
            )
            total += sum(shard.finished_total for shard in described.shards)
        return total

    async def wait_settled(self, runs: int, finished: int) -> None:
        """Until so many runs were noted and so many events have ended. Stalled: no progress."""
        await self.ticks.wait_for(runs)
        began = time.monotonic()
        while (now := await self.finished()) < finished:
            if time.monotonic() - began > STALL_SECONDS:
                raise Stalled(f"{now} of {finished} events settled after {STALL_SECONDS:.0f} s")
            await asyncio.sleep(_POLL_SECONDS)

    @asynccontextmanager
    async def paused(self, function_name: str = fleet_functions.NOOP) -> AsyncIterator[None]:
        """Its pollers leave the function's events in the queue meanwhile, as the peers' accept rows have no workers."""
        await self.pause(function_name, True)
        try:
            yield
        finally:
            await self.pause(function_name, False)

    async def pause(self, function_name: str, paused: bool) -> None:
        """Have its pollers leave the function's events in the queue, or take them again."""
        await pollers.pause(self._of_role("poller"), (TENANT,), function_name, paused)

    def pid(self, node_id: str) -> int:
        """The process of a node now; a new one after a restart."""
        return fleet_file.running(self.data).nodes[node_id].pid

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time so far by service; "sandboxes" are what the runtime hosts started."""
        found: dict[str, float] = {}
        for pid, name in self._processes().items():
            found[name] = found.get(name, 0.0) + processes.cpu_seconds(pid)
        return found

    def pss_mib(self) -> tuple[float, int]:
        """Proportional set size of every process of the fleet in MiB, and how many could not be read."""
        sizes = [processes.pss_bytes(pid) for pid in self._processes()]
        return sum(size for size in sizes if size is not None) / (1 << 20), sum(size is None for size in sizes)

    def _of_role(self, role: str) -> list[Peer]:
        return [peer for name, peer in self._peers.items() if name.rpartition("-")[0] == role]

    def _processes(self) -> dict[int, str]:
        """Every process of the fleet and the service it is of."""
        if self._child is None:
            return {}
        supervisor = self._child.pid
        names = {supervisor: "supervisor"}
        for pid in processes.descendants(supervisor):
            names[pid] = service_of(processes.command_of(pid)) or "sandboxes"
        return names


def service_of(command: list[str]) -> str:
    """The service that a command line runs: ".. -m services.queue" -> "queue"; empty: none."""
    for option, value in itertools.pairwise(command):
        if option == "-m" and value.startswith("services.") and value.count(".") == 1:
            return value.removeprefix("services.")
    return ""


def _free_ports(count: int) -> list[int]:
    bound = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports
