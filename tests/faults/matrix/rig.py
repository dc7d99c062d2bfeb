"""The fleet of a cell, and what faults do to it."""

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cli.commands.shards import describe_shards
from cli.connection import TENANT
from services.shared.channels import TOKEN_KEY, read_token
from tests.faults.matrix import faulty_disk, functions, probe, wall_clock
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.checker import ENDS
from tests.faults.matrix.client import Client
from tests.faults.matrix.faulty_disk import FaultyDisk
from tests.faults.matrix.history import Ended, Sent
from tests.faults.matrix.releases import Releases
from tests.kit.fleet import Fleet
from tests.kit.kill_points import KillPoints
from tests.kit.waiting import wait_until

# Minutes of semantics in seconds; leases short enough that a fault outlives them.
SETTINGS = {
    "retry.base_seconds": "0.2",
    "retry.throttle_base_seconds": "0.1",
    "queue.visibility_timeout_ms": "3000",
    "control.heartbeat_interval_ms": "300",
    "poller.run_margin_seconds": "8",
    "trace.per_second": "0",
    "trace.one_in": "1000000",
}
ARGUMENTS = ("--queues", "2", "--pollers", "2", "--runtimes", "2", "--shards", "32")
LEASE_SECONDS = 3.0
# What a fleet of two cores and its client do with half of them.
CALM_PER_SECOND = 100.0
SERVING_SECONDS = 30.0
SHARDS_SECONDS = 30.0
ASK_SECONDS = 0.2
# One function's events of one shard, as ListEvents gives them: more than these cannot be told whole.
MAX_LISTED = 1_000
MAX_TOLD = 5
_QUARANTINED = (queue_pb2.SHARD_STATE_QUARANTINED, queue_pb2.SHARD_STATE_OPENING)


class Rig:
    """One cell's fleet, its client, and the seeded choices of its fault."""

    def __init__(self, cell: Cell, seed: int, folder: Path, environment: dict[str, str]) -> None:
        self.cell = cell
        # Events that are to stand there when the cell has ended: nothing runs them.
        self.standing = 0
        self.draw = random.Random(f"fault {cell.name} {seed}")
        self.folder = folder
        self.kill_points = KillPoints(folder / "kill-points")
        if cell.shifts_clocks:
            environment = {**environment, wall_clock.VARIABLE: str(folder / "wall-shift")}
        self.disk: FaultyDisk | None = None
        if cell.has_faulty_disk:
            self.disk = FaultyDisk(folder, folder / "data" / "queue" / faulty_disk.NODE)
            environment = {**environment, **self.disk.environment}
        environment = {**self.kill_points.environment, **environment}
        self.releases: Releases | None = None
        if cell.version_step:
            self.releases = Releases(folder / "releases", cell.version_step)
            # Nothing of this tree's is to be found by a process of the other one.
            environment = {"PYTHONPATH": ""}
        self.fleet = Fleet(
            {**SETTINGS, **cell.settings},
            data=folder / "data",
            arguments=cell.arguments or ARGUMENTS,
            environment=environment,
            python=self.releases.python if self.releases is not None else None,
        )
        self.notes: list[str] = []
        # What a fault saw that must not be.
        self.broken: list[str] = []
        # Events that a tool named as lost, and those that a fault sent besides the client's.
        self.named_lost: set[bytes] = set()
        self.damaged_shards: set[int] = set()
        self.sent: list[Sent] = []
        # Monotonic seconds: when each fault began; how long its service was away.
        self.faults_at: list[float] = []
        self.recoveries: list[float] = []
        # Each node that was restarted, from when to when, wall clock.
        self.restarts: list[tuple[str, int, int]] = []
        # Of the slow disk: its shards, and from when to when it was slow, ms of the wall clock.
        self.slow_shards: set[int] = set()
        self.slow_spans: list[tuple[int, int]] = []
        # Of crowds: event numbers where the baseline, the flood and the calm begin; what a backlog's drain was.
        self.flood: tuple[int, int, int] | None = None
        self.overload_ended_ns = self.backlog = 0
        self.drain_seconds = self.drain_pace = 0.0
        self.load_average = os.getloadavg()[0]
        self.client: Client | None = None
        self.around: Any = None

    def deploy(self) -> None:
        """The functions of the cell and of the probe."""
        functions.deploy(self.fleet, **self.cell.function)
        self.fleet.deploy(probe.FUNCTION, "def handler(event, context): return 1")

    # --- what faults use

    def wait_acked(self, events: int, within_seconds: float = 60.0) -> None:
        """Until so many more events were acknowledged, or the client has nothing more to send."""
        assert self.client is not None
        client = self.client
        wanted = client.progress.acked + events
        wait_until(
            lambda: client.progress.acked >= wanted or client.is_done, within_seconds, f"{events} more acknowledgements"
        )

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """Inside it the load leaves half of the machine free, and nothing waits: how soon a node serves again says
        something of the node. At the usual pace every core is busy, and a start takes as long as its share of them."""
        assert self.client is not None
        usual = self.client.load.per_second
        self.client.pace(CALM_PER_SECOND)
        most = self.standing + probe.MOST_LEFT + int(CALM_PER_SECOND / 2)
        self.wait_depth(lambda depth: 0 <= depth <= most, self.cell.drain_seconds, "what waits to be worked off")
        try:
            yield
        finally:
            self.client.pace(usual)

    @contextlib.contextmanager
    def timed(self, node_id: str, old_pid: int) -> Iterator[None]:
        """From here until the node serves again counts as its recovery."""
        began = time.monotonic()
        self.faults_at.append(began)
        yield
        self.wait_serving(node_id, old_pid)
        self.recoveries.append(time.monotonic() - began)

    def kill(self, node_id: str) -> None:
        """kill -9, and wait until the node that the supervisor starts in its place serves."""
        old_pid = self.fleet.pid_of(node_id)
        with self.timed(node_id, old_pid):
            os.kill(old_pid, signal.SIGKILL)
        self.notes.append(f"{node_id} killed: serves again after {self.recoveries[-1]:.2f} s")

    def freeze(self, node_id: str, seconds: float) -> None:
        """SIGSTOP for so long. What is tested is time itself, so nothing else can be waited for."""
        pid = self.fleet.pid_of(node_id)
        self.faults_at.append(time.monotonic())
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        self.notes.append(f"{node_id} frozen for {seconds:.1f} s")

    def die_at(self, node_id: str, point: str, within_seconds: float = 30.0) -> None:
        """Have the node die at a named point, and wait until it serves again."""
        old_pid = self.fleet.pid_of(node_id)
        self.kill_points.ask(node_id, point)
        wait_until(lambda: not self.kill_points.is_due(node_id), within_seconds, f"{node_id} to come to {point}")
        with self.timed(node_id, old_pid):
            pass
        self.notes.append(f"{node_id} died at {point!r}: serves again after {self.recoveries[-1]:.2f} s")

    def wait_serving(self, node_id: str, old_pid: int = 0) -> None:
        """Until the node, under another pid than the old one, says over its own socket that it serves; a queue node,
        that each of its shards does."""

        def serves() -> bool:
            pid = self.fleet.pid_of(node_id)
            if not pid or pid == old_pid:
                return False
            node, token = self.fleet.file.nodes[node_id], read_token(self.fleet.file.token_file)
            return is_serving(node.target) and (node.role != "queue" or has_open_shards(node.target, token))

        wait_until(serves, SERVING_SECONDS, f"{node_id} to serve again")

    # --- what the fleet says

    def depth(self) -> int:
        """Events not settled yet; -1: a node that is away just now has none to tell."""
        try:
            return self.fleet.depth()
        except Exception:
            return -1

    def wait_depth(self, wanted: Callable[[int], bool], within_seconds: float, what: str) -> None:
        """Until the depth is so. Asking costs the fleet something: it is asked a few times a second."""
        next_ask = 0.0

        def is_so() -> bool:
            nonlocal next_ask
            if (now := time.monotonic()) < next_ask:
                return False
            next_ask = now + ASK_SECONDS
            return wanted(self.depth())

        wait_until(is_so, within_seconds, what)

    def shards(self, node_id: str = "") -> list[dict[str, Any]]:
        """What `evenflow shards` has of every shard, or of one node's."""
        with self.fleet.connect() as connection:
            rows, _ = describe_shards(connection)
        return [row for row in rows if not node_id or row["owner"] == node_id]

    def wait_shards(self, node_id: str, wanted: Callable[[list[dict[str, Any]]], bool], what: str) -> None:
        """Until a node's shards are so."""
        wait_until(lambda: bool(rows := self.shards(node_id)) and wanted(rows), SHARDS_SECONDS, what)

    def ended(self) -> list[Ended]:
        """Every event of the cell's functions that the shards know. AssertionError: too many to be told whole."""
        return [_ended(one) for one in self._events((functions.PLAIN, functions.TOLD))]

    def unsettled(self) -> str:
        """What of the cell's events has no end yet, in words."""
        names = (functions.PLAIN, functions.TOLD, functions.DESTINATION)
        left = [one for one in self._events(names) if _ended(one).state not in ENDS]
        told = [
            f"{one.function_name} in shard {one.shard_id} {_ended(one).state}, deliveries {one.deliveries}, function "
            f"errors {one.function_errors}, throttles {one.throttles}, "
            f"available since {one.available_at_ms}"
            for one in left[:MAX_TOLD]
        ]
        return "; ".join([f"{len(left)} have no end", *told])

    def left_of(self, *names: str) -> set[bytes]:
        """Request ids of these functions' events that have no end yet."""
        return {one.request_id for one in self._events(names) if _ended(one).state not in ENDS}

    def _events(self, names: Sequence[str]) -> Iterator[queue_pb2.EventStatus]:
        with self.fleet.connect() as connection:
            for node in connection.queue_nodes().values():
                described = connection.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest())
                shard_ids = [one.depth.shard_id for one in described.shards if one.depth.state not in _QUARANTINED]
                for shard_id, name in itertools.product(shard_ids, names):
                    request = queue_pb2.ListEventsRequest(
                        tenant_id=TENANT, shard_id=shard_id, function_name=name, page_size=MAX_LISTED
                    )
                    events = connection.ask(node.ListEvents, request).events
                    assert len(events) < MAX_LISTED, f"shard {shard_id}: {len(events)} events of {name} are too many"
                    yield from events


def is_serving(target: str) -> bool:
    """Whether a node's health service says SERVING."""
    # Dialling somebody who is not there takes from the machine what the node needs to come up.
    if not os.path.exists(target.removeprefix("unix:")):
        return False
    with grpc.insecure_channel(target) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def has_open_shards(target: str, token: str) -> bool:
    """Whether a queue node knows its shards and has opened all of them."""
    with grpc.insecure_channel(target) as channel:
        request = queue_pb2.DescribeShardsRequest()
        metadata = ((TOKEN_KEY, token),)
        try:
            answer = queue_pb2_grpc.QueueServiceStub(channel).DescribeShards(request, timeout=0.5, metadata=metadata)
        except grpc.RpcError:
            return False
    return bool(answer.shards) and all(one.depth.state != queue_pb2.SHARD_STATE_OPENING for one in answer.shards)


def _ended(status: queue_pb2.EventStatus) -> Ended:
    return Ended(
        request_id=status.request_id,
        state=queue_pb2.EventState.Name(status.state).removeprefix("EVENT_STATE_").lower(),
        condition=event_pb2.Condition.Name(status.condition),
        function_errors=status.function_errors,
        deliveries=status.deliveries,
        finished_ms=status.finished_at_ms,
        expires_ms=status.expires_at_ms,
    )
