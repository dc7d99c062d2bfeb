"""QueueService.Lease and Settle: credits, limits, receipts, what a stream's end does."""

from typing import Any

import grpc
import pytest
from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from tests.contract import messages
from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.kit import end_of, read
from tests.contract.messages import ack, reason, reasons
from tests.contract.queue.nodes import BIG, EPOCH, Node, credit, leases

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_poller_that_waits_gets_events_of_every_shard_as_they_come(node: Node) -> None:
    """Whole, with a receipt that settles them."""
    call = await node.poller(10)
    for shard_id in (0, 1, 0):
        event = node.event(shard_id, trace=event_pb2.TraceContext(traceparent=f"00-{'ab' * 16}-{'cd' * 8}-00"))
        await node.accept(event, shard_id=shard_id)
        (lease,) = await leases(call, 1)
        assert lease.event == event and lease.receipt.shard_id == shard_id and lease.visibility_timeout_ms > 0
        assert await node.state(event) == "LEASED"
        assert not (await node.settle(ack(lease))).refusals
        assert await node.state(event) == "SUCCEEDED"
    call.cancel()


async def test_no_more_is_leased_than_credit_was_given_for(node: Node) -> None:
    """Amounts add up over messages, and over shards."""
    for shard_id in (0, 1):
        await node.accept(*(node.event(shard_id) for _ in range(20)), shard_id=shard_id)
    call = await node.poller(5)
    await credit(call, 3)
    await leases(call, 8)
    assert await leased(node) == 8
    await credit(call, 30)
    await leases(call, 30)
    assert await leased(node) == 38
    call.cancel()


async def leased(node: Node) -> int:
    """Leases at all pollers."""
    described = await node.end.ask("DescribeShards", queue_pb2.DescribeShardsRequest())
    return sum(shard.depth.leased for shard in described.shards)


async def test_credit_is_in_bytes_too_and_one_lease_may_overdraw_it(node: Node) -> None:
    await node.accept(*(node.event(payload=b"x" * 1_000) for _ in range(3)))
    call = await node.poller(10, 1)
    await leases(call, 1)
    assert await leased(node) == 1
    await credit(call, 1, BIG)
    await leases(call, 2)
    call.cancel()


@pytest.mark.parametrize("bad", [(0, 1), (10_001, 1), (1, 0), (1, (64 << 20) + 1)])
async def test_a_credit_outside_its_bounds_ends_the_stream(node: Node, bad: tuple[int, int]) -> None:
    """Alone: the poller comes again."""
    call = await node.poller()
    await credit(call, *bad)
    assert await end_of(call) == "INVALID_PARAMETER"
    await node.accept(node.event())
    await leases(await node.poller(1), 1)


HELLO: dict[str, Any] = {"poller_id": "poller-0", "incarnation": "x", "shard_map_epoch": EPOCH}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([{"credit": queue_pb2.LeaseCredit(events=1, bytes=1)}], "INVALID_PARAMETER"),
        ([{"hello": queue_pb2.LeaseHello(**HELLO)}] * 2, "INVALID_PARAMETER"),
        ([{"hello": queue_pb2.LeaseHello(**{**HELLO, "poller_id": ""})}], "INVALID_PARAMETER"),
        ([{"hello": queue_pb2.LeaseHello(**{**HELLO, "incarnation": "x" * 65})}], "INVALID_PARAMETER"),
        ([{"hello": queue_pb2.LeaseHello(**{**HELLO, "shard_map_epoch": EPOCH - 1})}], "SHARD_MAP_STALE"),
        (
            [
                {"hello": queue_pb2.LeaseHello(**HELLO)},
                {"limits": queue_pb2.FunctionLimits(limits=[queue_pb2.FunctionLimit()] * 1_001)},
            ],
            "INVALID_PARAMETER",
        ),
    ],
    ids=["credit first", "hello twice", "nobody", "long incarnation", "stale map", "too many limits"],
)
async def test_what_breaks_the_rules_of_the_stream_ends_it(
    node: Node, sent: list[dict[str, Any]], expected: str
) -> None:
    call = node.end.open("Lease")
    for message in sent:
        await call.write(queue_pb2.LeaseRequest(**message))
    assert await end_of(call) == expected


async def test_a_message_of_a_version_to_come_is_passed_over(node: Node) -> None:
    """No kind that this version knows; unknown fields beside known ones."""
    call = await node.poller()
    await call.write(UNKNOWN_FIELD)
    more = queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=1, bytes=BIG))
    await call.write(more.SerializeToString() + UNKNOWN_FIELD)
    await node.accept(node.event())
    await leases(call, 1)
    call.cancel()


async def test_a_limit_pauses_bounds_and_is_lifted(node: Node) -> None:
    await node.accept(*(node.event() for _ in range(4)), node.event(function="g"))
    call = await node.poller()

    async def limit(**bound: int) -> None:
        one = queue_pb2.FunctionLimit(tenant_id=node.tenant, function_name="f", **bound)
        await call.write(queue_pb2.LeaseRequest(limits=queue_pb2.FunctionLimits(limits=[one])))

    await limit(max_leases=0)
    await credit(call, 10)
    (other,) = await leases(call, 1)
    assert other.event.function_name == "g" and await leased(node) == 1
    await limit(max_leases=1)
    (first,) = await leases(call, 1)
    assert await leased(node) == 2
    await node.settle(ack(first))
    await leases(call, 1)
    await limit()
    await leases(call, 2)
    call.cancel()


async def test_leases_outlive_their_stream_and_end_with_their_incarnation(node: Node) -> None:
    """The same poller on a new stream settles them; another start of it frees them, counted."""
    await node.accept(node.event(), node.event())
    call = await node.poller(2, incarnation="same")
    one, two = await leases(call, 2)
    await call.done_writing()
    assert await read(call) is grpc.aio.EOF
    call = await node.poller(5, incarnation="same")
    assert not (await node.settle(ack(one))).refusals
    call.cancel()
    (again,) = await leases(await node.poller(5, incarnation="other"), 1)
    assert again.event == two.event and again.deliveries == 1 and again.receipt.fence != two.receipt.fence
    assert reasons((await node.settle(ack(two))).refusals) == [(0, "RECEIPT_EXPIRED")]


async def test_credit_ends_with_its_stream(node: Node) -> None:
    call = await node.poller(10, incarnation="same")
    await call.done_writing()
    assert await read(call) is grpc.aio.EOF
    call = await node.poller(incarnation="same")
    await node.accept(node.event(), node.event())
    await credit(call, 1)
    await leases(call, 1)
    assert await leased(node) == 1
    call.cancel()


async def test_one_batch_settles_leases_of_several_shards(node: Node) -> None:
    """One answer; what is stale, of a foreign shard or breaks the contract is refused alone."""
    for shard_id in (0, 1):
        await node.accept(node.event(shard_id), shard_id=shard_id)
    one, two = await leases(await node.poller(2), 2)
    elsewhere = queue_pb2.Settlement(receipt=queue_pb2.Receipt(shard_id=2, sequence=1), ack=queue_pb2.Ack())
    nothing = queue_pb2.Settlement(receipt=one.receipt)
    answer = await node.settle(nothing, ack(one), elsewhere, ack(two), ack(one))
    assert reasons(answer.refusals) == [
        (0, "INVALID_PARAMETER"),
        (2, "SHARD_UNAVAILABLE"),
        (4, "RECEIPT_EXPIRED"),
    ]
    assert await leased(node) == 0


@pytest.mark.parametrize(
    ("changes", "count", "expected"),
    [
        ({"shard_map_epoch": EPOCH - 1}, 1, "SHARD_MAP_STALE"),
        ({"batch_id": 0}, 1, "INVALID_PARAMETER"),
        ({}, 0, "INVALID_PARAMETER"),
        ({}, 1_001, "INVALID_PARAMETER"),
    ],
)
async def test_a_batch_is_refused_as_a_whole(node: Node, changes: dict[str, int], count: int, expected: str) -> None:
    """Nothing is stored: the lease can still be settled."""
    await node.accept(node.event())
    (lease,) = await leases(await node.poller(1), 1)
    assert reason((await node.settle(*[ack(lease)] * count, **changes)).refusal) == expected
    assert not (await node.settle(ack(lease))).refusals


@pytest.mark.today
async def test_a_destination_and_its_dead_letter_queue_may_confirm_in_one_batch(node: Node) -> None:
    event = node.event()
    await node.accept(event)
    (lease,) = await leases(await node.poller(1), 1)
    hand_over = messages.hand_over(lease, destination_arn="arn:d", dead_letter_arn="arn:q")
    parts = (messages.confirm(lease), messages.confirm(lease, "DEAD_LETTER_QUEUE"))
    assert not (await node.settle(hand_over, *parts, messages.extend(lease))).refusals
    assert await node.state(event) == "HANDOVER"
    (again,) = await leases(await node.poller(1), 1)
    assert again.handover.destination_arn == "arn:d" and len(again.handover.confirmed) == 2
    assert not (await node.settle(ack(again))).refusals


@pytest.mark.parametrize("cause", [0, 99])
async def test_a_cause_that_this_version_does_not_know_is_refused(node: Node, cause: int) -> None:
    """Typed, and the lease goes on."""
    await node.accept(node.event())
    (lease,) = await leases(await node.poller(1), 1)
    bad = messages.settlement(lease, release=queue_pb2.Release(cause=queue_pb2.ReleaseCause.ValueType(cause)))
    assert reasons((await node.settle(bad)).refusals) == [(0, "INVALID_PARAMETER")]
    assert not (await node.settle(ack(lease))).refusals


async def test_dead_letters_are_listed_shown_redriven_and_purged(node: Node) -> None:
    """To their owner, by pages and filters; a redriven one is leased again under its id."""
    first, second, other = node.event(), node.event(), node.event(function="g")
    await node.bury(first, second, other)
    ask, which = node.end.ask, queue_pb2.DeadLetterFilter(tenant_id=node.tenant, shard_id=0)
    page = await ask("ListDeadLetters", queue_pb2.ListDeadLettersRequest(filter=which, page_size=2))
    rest = await ask("ListDeadLetters", queue_pb2.ListDeadLettersRequest(filter=which, page_token=page.next_page_token))
    ids = [entry.status.request_id for entry in [*page.dead_letters, *rest.dead_letters]]
    assert ids == [first.request_id, second.request_id, other.request_id] and rest.next_page_token == ""
    request = queue_pb2.GetDeadLetterRequest(tenant_id=node.tenant, request_id=first.request_id)
    shown = (await ask("GetDeadLetter", request)).dead_letter
    assert shown.event == first and shown.response_payload == b"{}" and shown.status.error_type == "ValueError"
    which.function_name = "f"
    redrive = queue_pb2.RedriveDeadLettersRequest(filter=which, max_events=1)
    assert (await ask("RedriveDeadLetters", redrive)).redriven == 1
    (lease,) = await leases(await node.poller(5), 1)
    assert lease.event.request_id == first.request_id and (lease.attempts, lease.function_errors) == (0, 0)
    which.function_name = ""
    assert (await ask("PurgeDeadLetters", queue_pb2.PurgeDeadLettersRequest(filter=which))).purged == 2
    listed = await ask("ListEvents", queue_pb2.ListEventsRequest(tenant_id=node.tenant, shard_id=0))
    assert [status.request_id for status in listed.events] == [first.request_id]
