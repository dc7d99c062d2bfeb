"""QueueService.Enqueue and the depths: batches, refusals, ids, streams."""

import asyncio
from typing import Any

import grpc
import pytest
from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2

from tests.contract.clients import TODAY, UNKNOWN_FIELD
from tests.contract.kit import code_of, end_of, read, refusal_of
from tests.contract.messages import ack, reason, reasons
from tests.contract.queue.nodes import EPOCH, Node, leases

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_batches_of_several_shards_are_answered_on_one_stream(node: Node) -> None:
    """Each with its id and its shard's depth; the stream ends once all are answered after a half-close."""
    call = node.end.open("Enqueue")
    for batch_id, shard_id in ((5, 0), (3, 1), (8, 0)):
        request = queue_pb2.EnqueueRequest(
            batch_id=batch_id, shard_map_epoch=EPOCH, shard_id=shard_id, events=[node.event(shard_id)]
        )
        await call.write(request)
    await call.done_writing()
    answers = {answer.batch_id: answer for answer in [await read(call) for _ in range(3)]}
    assert await read(call) is grpc.aio.EOF and await call.code() is grpc.StatusCode.OK
    assert set(answers) == {5, 3, 8} and answers[3].depth == 1 and {answers[5].depth, answers[8].depth} <= {1, 2}


async def test_a_repeat_is_accepted_again_and_stored_once(node: Node) -> None:
    """On another stream, as after a lost answer."""
    first, second = node.event(), node.event()
    await node.accept(first)
    answer = await node.enqueue(first, second, first)
    assert list(answer.duplicate_indexes) == [0, 2] and answer.depth == 2 and not answer.event_refusals


async def test_another_body_under_a_token_is_refused_alone(node: Node) -> None:
    await node.accept(node.event(token="a"))
    answer = await node.enqueue(node.event(), node.event(token="a", payload=b"other"))
    assert reasons(answer.event_refusals) == [(1, "TOKEN_REUSED")] and answer.depth == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shard_map_epoch": EPOCH - 1}, "SHARD_MAP_STALE"),
        ({"shard_id": 2}, "SHARD_UNAVAILABLE"),
        ({"shard_id": 70_000}, "SHARD_UNAVAILABLE"),
        ({"batch_id": 0}, "INVALID_PARAMETER"),
    ],
)
async def test_a_batch_is_refused_as_a_whole_and_the_stream_goes_on(
    node: Node, changes: dict[str, Any], expected: str
) -> None:
    """With the reason in the answer, nothing stored."""
    call = node.end.open("Enqueue")
    good: dict[str, Any] = {"batch_id": 1, "shard_map_epoch": EPOCH, "shard_id": 0, "events": [node.event()]}
    await call.write(queue_pb2.EnqueueRequest(**{**good, **changes}))
    refused = await read(call)
    assert reason(refused.refusal) == expected and refused.refusal.message
    await call.write(queue_pb2.EnqueueRequest(**good))
    accepted = await read(call)
    assert not accepted.HasField("refusal") and accepted.depth == 1 and not accepted.duplicate_indexes
    call.cancel()


@pytest.mark.parametrize("count", [0, 1_001])
async def test_a_batch_has_1_to_1000_events(node: Node, count: int) -> None:
    assert reason((await node.enqueue(*[node.event()] * count)).refusal) == "INVALID_PARAMETER"


async def test_an_event_that_breaks_its_bounds_is_refused_alone(node: Node) -> None:
    """Of another shard, without owner, too large: each by itself."""
    nobody, large = node.event(), node.event(payload=b"x" * 1_200_000)
    nobody.tenant_id = ""
    answer = await node.enqueue(node.event(1), nobody, Event(), large, node.event())
    bad = "INVALID_PARAMETER"
    assert reasons(answer.event_refusals) == [(0, bad), (1, bad), (2, bad), (3, "REQUEST_TOO_LARGE")]
    assert answer.depth == 1


async def test_a_message_beyond_grpcs_bound_breaks_its_stream_alone(node: Node) -> None:
    """8 MiB; other streams and later ones go on."""
    other = node.end.open("Enqueue")
    call = node.end.open("Enqueue")
    events = [node.event(payload=b"x" * 1_000_000) for _ in range(9)]
    await call.write(queue_pb2.EnqueueRequest(batch_id=1, shard_map_epoch=EPOCH, shard_id=0, events=events))
    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await other.write(queue_pb2.EnqueueRequest(batch_id=1, shard_map_epoch=EPOCH, shard_id=0, events=[node.event()]))
    assert (await read(other)).depth == 1
    other.cancel()


async def test_what_this_version_does_not_know_is_kept_for_those_who_do(node: Node) -> None:
    """A field of a version to come, in the request passed over and in the event kept."""
    event = Event.FromString(node.event().SerializeToString() + UNKNOWN_FIELD)
    request = queue_pb2.EnqueueRequest(batch_id=1, shard_map_epoch=EPOCH, shard_id=0, events=[event])
    call = node.end.open("Enqueue")
    await call.write(request.SerializeToString() + UNKNOWN_FIELD)
    assert (await read(call)).depth == 1
    call.cancel()
    poller = await node.poller(1)
    (lease,) = await leases(poller, 1)
    # An old caller does not look at it.
    kept = UNKNOWN_FIELD in lease.event.SerializeToString()
    assert lease.event.request_id == event.request_id and kept == (node.end.client == TODAY)
    poller.cancel()


async def test_a_caller_that_goes_away_takes_nothing_along(node: Node) -> None:
    """A stream that is cancelled in the middle: what was sent is stored or not, and the node answers the others."""
    events = [node.event() for _ in range(50)]
    call = node.end.open("Enqueue")
    for number, event in enumerate(events, 1):
        await call.write(queue_pb2.EnqueueRequest(batch_id=number, shard_map_epoch=EPOCH, shard_id=0, events=[event]))
    call.cancel()
    answer = await node.enqueue(*events)
    assert answer.depth == len(events) and not answer.event_refusals


async def test_a_deadline_ends_the_stream(node: Node) -> None:
    """The caller is told by gRPC, and the node lets go of the stream."""
    call = node.end.stub.Enqueue(metadata=node.end.metadata, timeout=0.05)
    assert await code_of(call) is grpc.StatusCode.DEADLINE_EXCEEDED
    await node.accept(node.event())


async def test_depths_come_at_once_and_when_they_change(node: Node) -> None:
    """All shards first, then those that changed."""
    call = node.end.stub.WatchDepths(
        queue_pb2.WatchDepthsRequest(interval_ms=10), metadata=node.end.metadata, timeout=20
    )
    first = await read(call)
    assert [depth.shard_id for depth in first.depths] == [0, 1]
    assert {depth.state for depth in first.depths} == {queue_pb2.SHARD_STATE_SERVING}
    await node.accept(node.event(1), node.event(1), shard_id=1)
    async with asyncio.timeout(20):
        while True:
            changed = {depth.shard_id: depth for depth in (await read(call)).depths}
            if 1 in changed and changed[1].depth == 2:
                break
    call.cancel()


async def test_a_depth_is_told_again_after_an_event_that_came_and_went_between_two_looks(node: Node) -> None:
    """Its Enqueue was answered with depth 1: without another word the shard would look deeper than it is for good."""
    poller = await node.poller(1)
    call = node.end.stub.WatchDepths(
        queue_pb2.WatchDepthsRequest(interval_ms=1_000), metadata=node.end.metadata, timeout=20
    )
    assert {depth.depth for depth in (await read(call)).depths} == {0}
    await node.accept(node.event(1), shard_id=1)
    (lease,) = await leases(poller, 1)
    assert not (await node.settle(ack(lease))).refusals
    async with asyncio.timeout(20):
        while not any(depth.shard_id == 1 and depth.depth == 0 for depth in (await read(call)).depths):
            pass
    call.cancel()
    poller.cancel()


@pytest.mark.parametrize("interval_ms", [9, 10_001])
async def test_an_interval_outside_its_bounds_is_refused(node: Node, interval_ms: int) -> None:
    call = node.end.stub.WatchDepths(queue_pb2.WatchDepthsRequest(interval_ms=interval_ms), metadata=node.end.metadata)
    assert await end_of(call) == "INVALID_PARAMETER"


async def test_the_state_of_an_event_is_told_to_its_owner(node: Node) -> None:
    event = node.event()
    await node.accept(event)
    assert await node.state(event) == "AVAILABLE"
    ask = node.end.ask
    for request, expected in (
        (queue_pb2.GetEventRequest(tenant_id="somebody", request_id=event.request_id), "EVENT_NOT_FOUND"),
        (queue_pb2.GetEventRequest(tenant_id=node.tenant, request_id=node.event().request_id), "EVENT_NOT_FOUND"),
        (queue_pb2.GetEventRequest(tenant_id=node.tenant, request_id=b"short"), "INVALID_PARAMETER"),
        (queue_pb2.GetEventRequest(tenant_id=node.tenant, request_id=node.event(2).request_id), "SHARD_UNAVAILABLE"),
    ):
        assert await refusal_of(ask("GetEvent", request)) == expected
