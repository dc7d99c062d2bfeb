"""The fleet that is measured, as its data folder tells it: doors, shards, hosts, pollers, processes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from cli import fleet_file
from loadtest.bench import pollers, processes
from loadtest.bench.processes import CpuTimes
from loadtest.plan.measured import Fleet
from services.shared.channels import Peer, read_token

SUPERVISOR = "supervisor"
SANDBOXES = "sandboxes"
CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Shards:
    """All shards at one moment. depths: events not settled, by shard id; accepted, finished: taken
    and ended since their nodes started; dead_letters: kept now."""

    depths: Sequence[int]
    leased: int
    finished: int
    accepted: int = 0
    dead_letters: int = 0

    @property
    def depth(self) -> int:
        """Of all shards."""
        return sum(self.depths)


@dataclass(frozen=True, slots=True)
class Hosts:
    """All runtime hosts at one moment. slots: of one host; in_flight: invocations that run there or wait for it."""

    slots: int
    in_flight: int
    sandboxes: int


class Site:
    """A running fleet; close it. Its processes are those of the moment of opening."""

    def __init__(self, data: Path) -> None:
        """CliError: no fleet runs there."""
        running = fleet_file.running(data)
        self.data = Path(running.data_dir)
        door = urlsplit(running.http)
        self.host, self.http_port = door.hostname or "127.0.0.1", door.port or 80
        self.grpc_port = int(running.grpc.rpartition(":")[2])
        self.supervisor = running.pid
        self.replicas: dict[str, int] = {}
        for node in running.nodes.values():
            self.replicas[node.role] = self.replicas.get(node.role, 0) + 1
        self._roles = {node.pid: node.role for node in running.nodes.values()}
        token = read_token(running.token_file)
        self._peers = {name: (node.role, Peer.dial(node.target, token)) for name, node in running.nodes.items()}

    async def close(self) -> None:
        """The fleet runs on."""
        for _, peer in self._peers.values():
            await peer.close()

    def peers(self, role: str) -> list[Peer]:
        """The inner sockets of one role."""
        return [peer for found, peer in self._peers.values() if found == role]

    async def shards(self) -> Shards:
        """Ask every queue node. grpc.aio.AioRpcError: one does not answer."""
        answers: Sequence[Any] = await asyncio.gather(
            *(
                queue_pb2_grpc.QueueServiceStub(peer.channel).DescribeShards(
                    queue_pb2.DescribeShardsRequest(), metadata=peer.metadata, timeout=CALL_SECONDS
                )
                for peer in self.peers("queue")
            )
        )
        found = sorted((one for answer in answers for one in answer.shards), key=lambda one: one.depth.shard_id)
        return Shards(
            tuple(one.depth.depth for one in found),
            sum(one.depth.leased for one in found),
            sum(one.finished_total for one in found),
            sum(one.accepted_total for one in found),
            sum(one.dead_letters for one in found),
        )

    async def hosts(self) -> Hosts:
        """Ask every runtime host. grpc.aio.AioRpcError: one does not answer."""
        answers: Sequence[Any] = await asyncio.gather(
            *(
                runtime_pb2_grpc.RuntimeServiceStub(peer.channel).DescribeHost(
                    runtime_pb2.DescribeHostRequest(), metadata=peer.metadata, timeout=CALL_SECONDS
                )
                for peer in self.peers("runtime")
            )
        )
        return Hosts(
            max((one.load.slots for one in answers), default=0),
            sum(one.load.busy + one.load.waiting for one in answers),
            sum(len(one.sandboxes) for one in answers),
        )

    async def pause(self, tenants: Sequence[str], function_name: str, paused: bool) -> None:
        """Have every poller leave these events in the queue, or take them again."""
        await pollers.pause(self.peers("poller"), tenants, function_name, paused)

    async def describe(self, settings: Mapping[str, str]) -> Fleet:
        """What is measured. settings: those that it was given."""
        shards, hosts = await self.shards(), await self.hosts()
        return Fleet(dict(self.replicas), len(shards.depths), hosts.slots, dict(settings))

    def times(self) -> dict[int, CpuTimes]:
        """CPU times of every process of the fleet by pid."""
        return processes.tree_times(self.supervisor)

    def service_of(self, pid: int) -> str:
        """The service that a process of `times` belongs to; whatever runtime hosts started is of the sandboxes."""
        return SUPERVISOR if pid == self.supervisor else self._roles.get(pid, SANDBOXES)

    def memory(self) -> tuple[dict[str, int], dict[str, int]]:
        """Proportional set size in bytes by service, and of which of them so many processes could not be read: those
        are not in it, and a service of which none was is in the latter alone."""
        return memory_by_service({pid: processes.pss_bytes(pid) for pid in self.times()}, self.service_of)


def memory_by_service(
    sizes: Mapping[int, int | None], service_of: Callable[[int], str]
) -> tuple[dict[str, int], dict[str, int]]:
    """See Site.memory; sizes: by pid, None: unreadable. Pure."""
    found: dict[str, int] = {}
    unread: dict[str, int] = {}
    for pid, size in sizes.items():
        into, more = (unread, 1) if size is None else (found, size)
        into[service_of(pid)] = into.get(service_of(pid), 0) + more
    return found, unread
