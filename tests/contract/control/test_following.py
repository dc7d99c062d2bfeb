"""ControlService as its followers and nodes use it: Watch, Join, and what they ask. The fakes are held to the same."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from evenflow.control.v1 import control_pb2, resources_pb2

from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.kit import End, code_of, end_of, read, refusal_of
from tests.contract.services import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDS = ("real", "stand-in")
C = control_pb2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    kind, _, client = request.param.partition(" by ")
    async with serving("ControlService", kind) as found:
        yield found.seen_by(client)


async def snapshot_of(call: Any) -> tuple[dict[str, resources_pb2.Resource], int]:
    """The first parts of a watch, up to the complete one: resources by key, and the revision."""
    found: dict[str, resources_pb2.Resource] = {}
    while True:
        part = await read(call)
        assert part.in_snapshot and not part.deleted_keys
        found.update({one.key: one for one in part.upserts})
        if part.snapshot_complete:
            return found, part.revision


def watch(end: End, **more: Any) -> Any:
    """A follower."""
    return end.stub.Watch(C.WatchRequest(node_id="test"), **{"metadata": end.metadata, "timeout": 20, **more})


def hello_of(node_id: str, incarnation: str = "a", **more: Any) -> control_pb2.JoinRequest:
    """A node's first message."""
    fields = {"role": resources_pb2.NODE_ROLE_POLLER, "address": "unix:/nowhere", **more}
    return C.JoinRequest(hello=C.JoinHello(node_id=node_id, incarnation=incarnation, **fields))


async def test_a_watch_begins_with_everything_and_goes_on(end: End) -> None:
    """The fleet is in it; the stream stays open until its reader goes or its deadline comes."""
    call = watch(end, timeout=0.3)
    found, revision = await snapshot_of(call)
    fleet = found["fleet"].fleet
    assert fleet.fleet_id and len(fleet.account_id) == 12 and fleet.region and revision > 0
    assert await code_of(call) is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_node_is_welcomed_before_anything_else(end: End) -> None:
    """With the time between heartbeats; unknown fields and messages of a version to come are passed over."""
    call = end.open("Join")
    await call.write(hello_of("poller-1").SerializeToString() + UNKNOWN_FIELD)
    first = await read(call)
    assert first.welcome.fleet_id and first.welcome.heartbeat_interval_ms > 0
    await call.write(UNKNOWN_FIELD)
    await call.write(C.JoinRequest(heartbeat=C.Heartbeat()))
    await call.write(C.JoinRequest(leaving=C.Leaving()))
    await call.done_writing()
    assert await end_of(call) == ""


async def test_what_does_not_begin_with_hello_is_refused(end: End) -> None:
    call = end.open("Join")
    await call.write(C.JoinRequest(heartbeat=C.Heartbeat()))
    assert await end_of(call) == "INVALID_PARAMETER"


async def test_what_is_not_there_is_not_found(end: End) -> None:
    """By its own reason: a function is asked for by nodes before they say that there is none."""
    request = C.GetFunctionRequest(tenant_id="default", function_name="nobody")
    assert await refusal_of(end.ask("GetFunction", request)) == "FUNCTION_NOT_FOUND"
    parts = end.stub.DownloadPackage(C.DownloadPackageRequest(code_sha256=b"x" * 32), metadata=end.metadata)
    assert await end_of(parts) == "INVALID_PARAMETER"


async def test_a_follower_that_goes_away_leaves_the_others_alone(end: End) -> None:
    call, other = watch(end), watch(end)
    await read(call)
    call.cancel()
    await snapshot_of(other)
    other.cancel()
