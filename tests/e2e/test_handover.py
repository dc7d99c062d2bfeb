"""A destination that is down and a poller that is killed after the handover: one run, one record."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc
from evenflow.queue.v1 import queue_pb2

from cli.connection import FleetConnection, parse_request_id
from services.shared.channels import Peer, read_token
from tests.kit.fleet import Fleet
from tests.kit.waiting import until, wait_until

pytestmark = pytest.mark.fleet
TENANT = "default"
ROOM = [{"name": "room", "access": "write"}]
# Notes that it runs, then stays in its run until the test lets it go.
FIRST = """
    import os, time

    def handler(event, context):
        room = os.environ["EVENFLOW_BUCKET_ROOM"]
        fd = os.open(f"{room}/runs-{event['name']}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, b"run\\n")
        os.close(fd)
        while not os.path.exists(f"{room}/go-{event['name']}"):
            time.sleep(0.01)
        return {"made": event["name"]}
"""
SECOND = """
    import json, os

    def handler(event, context):
        name = event["requestPayload"]["name"]
        path = os.environ["EVENFLOW_BUCKET_ROOM"] + f"/records-{name}"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, (json.dumps(event) + "\\n").encode())
        os.close(fd)
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two functions, the second one the first one's destination."""
    with Fleet({"retry.base_seconds": "0.1", "retry.throttle_base_seconds": "0.1"}) as running:
        running.deploy("second", SECOND, buckets=ROOM)
        asynchronous = {"on_success": {"function": "second"}}
        running.deploy("first", FIRST, buckets=ROOM, timeout_seconds=60, **{"async": asynchronous})
        yield running


class Story:
    """One event of `first`, from its submission to its record."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet = fleet
        self.name = name
        self._room = fleet.data / "buckets" / "room"
        answer = fleet.lambda_client().invoke(
            FunctionName="first", InvocationType="Event", Payload=json.dumps({"name": name})
        )
        self.request_id: str = answer["ResponseMetadata"]["RequestId"]
        wait_until(lambda: self.lines("runs") == ["run"], 20.0, "the first run to begin")

    def lines(self, what: str) -> list[str]:
        """What handlers noted of this event."""
        path = self._room / f"{what}-{self.name}"
        return path.read_text().splitlines() if path.exists() else []

    def let_go(self) -> None:
        """The first handler returns."""
        (self._room / f"go-{self.name}").touch()

    def wait_handover(self, connection: FleetConnection) -> None:
        """Until the shard has the handover on disk; asked of the queue node, as the door is down."""
        request = queue_pb2.GetEventRequest(tenant_id=TENANT, request_id=parse_request_id(self.request_id))

        def is_handed_over() -> bool:
            (queue,) = connection.queue_nodes().values()
            status = connection.ask(queue.GetEvent, request).status
            assert status.state != queue_pb2.EVENT_STATE_SUCCEEDED, "the destination was to be down"
            return bool(status.state == queue_pb2.EVENT_STATE_HANDOVER)

        wait_until(is_handed_over, 15.0, "the handover")

    def check_end(self) -> None:
        """One run of the first, one record at the second, and both events have succeeded."""
        event: dict[str, Any] = json.loads(
            self.fleet.cli("event", self.request_id, "--wait", "--within", "30", "--json")
        )
        assert (event["state"], event["attempts"], event["function_errors"]) == ("succeeded", 1, 0)
        assert event["destination_arn"].endswith(":function:second")
        wait_until(lambda: self.lines("records"), 20.0, "the record")
        self.fleet.wait_drained()
        assert self.lines("runs") == ["run"], "the handler ran once"
        (line,) = self.lines("records")
        record = json.loads(line)
        assert record["requestPayload"] == {"name": self.name}
        assert record["responsePayload"] == {"made": self.name}
        context = record["requestContext"]
        assert (context["requestId"], context["condition"]) == (self.request_id, "Success")
        assert context["approximateInvokeCount"] == 1


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def queued(connection: FleetConnection) -> int:
    """Events in all shards, as the queue node counts them."""
    (queue,) = connection.queue_nodes().values()
    described = connection.ask(queue.DescribeShards, queue_pb2.DescribeShardsRequest())
    return sum(shard.depth.depth for shard in described.shards)


async def wait_submitted(fleet: Fleet) -> None:
    """Until the poller has its delivery on the wire."""
    peer = Peer.dial(fleet.file.nodes["poller-0"].target, read_token(fleet.file.token_file))
    stub: Any = poller_pb2_grpc.PollerServiceStub(peer.channel)

    async def is_delivering() -> bool:
        answer = await stub.DescribePoller(poller_pb2.DescribePollerRequest(), metadata=peer.metadata, timeout=5)
        return bool(answer.deliveries_in_flight == 1)

    try:
        await until(is_delivering, 10.0, "the delivery to begin")
        # It is written by the loop that answers here: some turns later it has left the process.
        for _ in range(5):
            assert await is_delivering()
    finally:
        await peer.close()


def test_the_door_is_gone_and_the_poller_dies_after_the_handover(fleet: Fleet) -> None:
    """Nobody starts them again before the handover is durable; afterwards the record goes out, and no second run."""
    story = Story(fleet, "down")
    assert fleet.process is not None
    old = fleet.pids()
    with fleet.connect() as connection, frozen(fleet.process.pid):
        fleet.kill("frontend-0")
        story.let_go()
        story.wait_handover(connection)
        fleet.kill("poller-0")
        assert story.lines("records") == []
    for node_id in ("frontend-0", "poller-0"):
        fleet.wait_restarted(node_id, old[node_id])
    story.check_end()


async def test_the_poller_dies_between_the_destination_s_word_and_its_own(fleet: Fleet) -> None:
    """The destination took the record, the poller cannot say so: the record goes out again and is the same event."""
    story = Story(fleet, "repeated")
    poller, frontend = fleet.pid_of("poller-0"), fleet.pid_of("frontend-0")
    with fleet.connect() as connection:
        with frozen(frontend):
            story.let_go()
            story.wait_handover(connection)
            await wait_submitted(fleet)
            # It will not hear the answer.
            os.kill(poller, signal.SIGSTOP)
        wait_until(lambda: queued(connection) == 2, 10.0, "the destination to take the record")
        # The first one has its handover, the second one waits for a poller: nothing was acknowledged.
        story.wait_handover(connection)
        os.kill(poller, signal.SIGKILL)
    fleet.wait_restarted("poller-0", poller)
    story.check_end()
