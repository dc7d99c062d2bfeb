"""What any shard store must do, sentence by sentence of queue.proto; every store of `stores.py` is held to it."""

from collections.abc import Iterator
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2
from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2

from tests.contract.messages import (
    EXHAUSTED,
    SHARD,
    ack,
    bury,
    confirm,
    extend,
    hand_over,
    reason,
    reasons,
    release,
)
from tests.contract.storage.stores import STORES
from tests.contract.storage.words import Words
from tests.kit.shard_store import Bounds, Numbers

TIMEOUT_MS = 10_000
KEEP_SECONDS = 60
UNKNOWN_FIELD = b"\xfa\xff\x03\x05hello"


@pytest.fixture
def bounds() -> dict[str, Any]:
    """Bounds that a test changes by `parametrize`."""
    return {}


@pytest.fixture(params=STORES)
def shard(request: pytest.FixtureRequest, bounds: dict[str, Any]) -> Iterator[Words]:
    store = STORES[request.param](Bounds(visibility_timeout_ms=TIMEOUT_MS, **bounds))
    yield Words(store)
    store.close()


def bounded(**bounds: int) -> pytest.MarkDecorator:
    """The shard of this test has these bounds."""
    return pytest.mark.parametrize("bounds", [bounds])


# Enqueue


def test_an_accepted_event_outlives_a_crash_and_is_leased_as_it_came(shard: Words) -> None:
    """Also what this version knows nothing of: the event is passed through as bytes."""
    sent = Event.FromString(
        shard.event(
            trace=event_pb2.TraceContext(traceparent=f"00-{'ab' * 16}-{'cd' * 8}-00", tracestate="a=b"),
            lineage=event_pb2.Lineage(parent_request_id=b"p" * 16, chain_depth=3),
            source="grpc",
            qualifier="7",
        ).SerializeToString()
        + UNKNOWN_FIELD
    )
    shard.accept(sent)
    shard.store.crash()
    lease = shard.one()
    assert lease.event == sent and UNKNOWN_FIELD in lease.event.SerializeToString()
    assert lease.receipt.shard_id == SHARD and lease.visibility_timeout_ms == TIMEOUT_MS
    assert (lease.attempts, lease.function_errors, lease.throttles, lease.deliveries) == (0, 0, 0, 0)
    assert not lease.expired
    assert lease.enqueued_at_ms == shard.store.clock.wall_ms() and not lease.HasField("handover")


def test_the_depth_after_the_batch_is_told(shard: Words) -> None:
    assert [shard.send(shard.event(), shard.event()).depth, shard.send(shard.event()).depth] == [2, 3]


@pytest.mark.parametrize("where", ["available", "leased", "delayed", "handover", "dead", "succeeded", "crashed"])
@pytest.mark.parametrize("token", ["", "a"])
def test_a_repeat_is_one_event_whatever_became_of_the_first(shard: Words, where: str, token: str) -> None:
    """By the id, in the same batch and in a later one."""
    event = shard.event(token=token)
    answer = shard.send(event, event)
    assert list(answer.duplicate_indexes) == [1] and answer.depth == 1
    if where not in ("available", "crashed"):
        lease = shard.one()
        steps = {
            "leased": extend(lease),
            "delayed": release(lease, "FUNCTION_ERROR", 1_000),
            "handover": hand_over(lease),
            "dead": bury(lease),
            "succeeded": ack(lease),
        }
        shard.done(steps[where])
    if where == "crashed":
        shard.store.crash()
    before = shard.store.numbers()
    assert list(shard.send(event).duplicate_indexes) == [0]
    assert shard.store.numbers() == before


@bounded(tenant_max_events=1, shard_max_events=2)
@pytest.mark.parametrize("token", ["", "a"])
def test_a_repeat_needs_no_room(shard: Words, token: str) -> None:
    """An event that is there is accepted again although its tenant has as many as it may."""
    event = shard.event(token=token)
    shard.accept(event)
    assert list(shard.send(event).duplicate_indexes) == [0]


def test_another_body_under_a_token_is_refused(shard: Words) -> None:
    """Function, qualifier or payload, whatever became of the first; the rest of the batch is stored."""
    first = shard.event(token="a")
    shard.accept(first)
    for changes in ({"payload": b"1"}, {"qualifier": "2"}, {"function_name": "g"}):
        other = Event()
        other.CopyFrom(first)
        for name, value in changes.items():
            setattr(other, name, value)
        answer = shard.send(shard.event(), other)
        assert reasons(answer.event_refusals) == [(1, "TOKEN_REUSED")]
    assert shard.store.numbers().depth == 4


def test_what_may_change_under_a_token_is_no_other_body(shard: Words) -> None:
    """The time of accept and the trace are the try's."""
    first = shard.event(token="a")
    shard.accept(first)
    first.accepted_at_ms += 5
    first.trace.traceparent = f"00-{'ab' * 16}-{'cd' * 8}-00"
    assert list(shard.send(first).duplicate_indexes) == [0]


@bounded(tenant_max_events=2)
def test_a_full_tenant_does_not_hold_up_another(shard: Words) -> None:
    answer = shard.send(*(shard.event() for _ in range(3)), shard.event(tenant="u"))
    assert reasons(answer.event_refusals) == [(2, "TENANT_QUEUE_FULL")] and answer.depth == 3
    (lease, *_) = shard.lease(10)
    shard.done(ack(lease))
    shard.accept(shard.event(tenant=lease.event.tenant_id))


@bounded(shard_max_events=2)
def test_a_full_shard_takes_nothing_and_settles(shard: Words) -> None:
    shard.accept(shard.event(), shard.event())
    answer = shard.send(shard.event())
    assert reason(answer.refusal) == "SHARD_FULL" and answer.refusal.retry_after_ms > 0
    (lease,) = shard.lease(1)
    shard.done(ack(lease))
    shard.accept(shard.event())


def test_what_breaks_the_contract_is_refused_alone(shard: Words) -> None:
    """Ids of no shard or another one, names, size: each by itself, the others are stored."""
    foreign = shard.event()
    foreign.request_id = bytes([*foreign.request_id[:8], foreign.request_id[8] ^ 0x04, *foreign.request_id[9:]])
    short, nobody, long, large = (
        shard.event(),
        shard.event(),
        shard.event("f" * 65),
        shard.event(payload=b"x" * 1_200_000),
    )
    short.request_id, nobody.tenant_id = b"short", ""
    answer = shard.send(foreign, short, nobody, long, large, shard.event())
    bad = "INVALID_PARAMETER"
    assert reasons(answer.event_refusals) == [(0, bad), (1, bad), (2, bad), (3, bad), (4, "REQUEST_TOO_LARGE")]
    assert shard.store.numbers().depth == 1


def test_a_payload_of_a_mebibyte_is_stored(shard: Words) -> None:
    sent = shard.event(payload=b"x" * (1 << 20))
    assert shard.one(sent).event == sent


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_has_1_to_1000_events(shard: Words, count: int) -> None:
    assert reason(shard.send(*(shard.event() for _ in range(count))).refusal) == "INVALID_PARAMETER"
    assert shard.store.numbers() == Numbers(0, 0, 0, 0, 0)


# Leases


def test_no_more_than_the_credit_is_leased_and_nothing_twice(shard: Words) -> None:
    events = [shard.event() for _ in range(5)]
    shard.accept(*events)
    leases = shard.lease(3) + shard.lease(10, "poller-1")
    assert [lease.event.request_id for lease in leases] == [event.request_id for event in events]
    assert shard.lease(10) == [] and shard.store.numbers().leased == 5


def test_credit_is_counted_in_bytes_too_and_one_lease_may_overdraw_it(shard: Words) -> None:
    shard.accept(*(shard.event(payload=b"x" * 1_000) for _ in range(5)))
    assert len(shard.lease(5, payload_bytes=1)) == 1
    assert 2 <= len(shard.lease(5, payload_bytes=2_500)) <= 3


def test_functions_take_turns(shard: Words) -> None:
    """A function with many events, of the same tenant or another, does not keep one with few from its turn."""
    shard.accept(*(shard.event("many") for _ in range(100)))
    shard.accept(shard.event("few"), shard.event("few", tenant="u"))
    leased = [(lease.event.tenant_id, lease.event.function_name) for lease in shard.lease(50)]
    assert {("t", "few"), ("u", "few")} <= set(leased)


def test_a_limit_holds_and_0_pauses_and_unset_lifts(shard: Words) -> None:
    shard.accept(*(shard.event() for _ in range(5)), shard.event("g"))
    store = shard.store
    store.join("poller-0", "a")

    def limit(**bound: int) -> None:
        store.limit("poller-0", [queue_pb2.FunctionLimit(tenant_id="t", function_name="f", **bound)])

    limit(max_leases=0)
    assert [lease.event.function_name for lease in store.lease("poller-0", 10)] == ["g"]
    limit(max_leases=2)
    first = store.lease("poller-0", 10)
    assert len(first) == 2 and store.lease("poller-0", 10) == []
    shard.done(ack(first[0]))
    assert len(store.lease("poller-0", 10)) == 1
    limit()
    assert len(store.lease("poller-0", 10)) == 2


def test_a_limit_is_of_one_poller(shard: Words) -> None:
    shard.accept(shard.event())
    shard.store.join("poller-0", "a")
    shard.store.limit("poller-0", [queue_pb2.FunctionLimit(tenant_id="t", function_name="f", max_leases=0)])
    assert shard.store.lease("poller-0", 1) == [] and len(shard.lease(1, "poller-1")) == 1


def test_an_event_past_its_age_is_handed_out_first_whatever_the_limits(shard: Words) -> None:
    """To be ended, not run."""
    shard.accept(shard.event("g"), shard.event(age_ms=3_000))
    shard.wait(3_000)
    shard.store.join("poller-0", "a")
    shard.store.limit("poller-0", [queue_pb2.FunctionLimit(tenant_id="t", function_name="f", max_leases=0)])
    (lease,) = shard.store.lease("poller-0", 1)
    assert lease.event.function_name == "f" and lease.expired


def test_a_lease_ends_with_its_time_and_the_old_receipt_is_refused(shard: Words) -> None:
    event = shard.event()
    old = shard.one(event)
    shard.wait(TIMEOUT_MS - 1)
    assert shard.state(event) == "LEASED"
    # A store may look for leases that are over once in a while.
    shard.wait(1_000)
    assert shard.state(event) == "AVAILABLE"
    new = shard.one()
    assert new.deliveries == 1 and new.receipt.fence != old.receipt.fence
    for stale in (ack(old), release(old, "FUNCTION_ERROR"), bury(old), hand_over(old), extend(old), confirm(old)):
        assert shard.settle(stale) == [(0, "RECEIPT_EXPIRED")]
    shard.done(ack(new))


@pytest.mark.parametrize("renewal", [extend, hand_over, confirm])
def test_a_lease_starts_anew(shard: Words, renewal: Any) -> None:
    """By Extend, a handover and a confirmation."""
    lease = shard.one(shard.event())
    for _ in range(3):
        shard.wait(TIMEOUT_MS - 1)
        shard.done(renewal(lease))
    assert shard.store.numbers().leased == 1


def test_a_clock_set_back_or_forth_ends_no_lease(shard: Words) -> None:
    shard.one(shard.event())
    for hours in (1, -2):
        shard.store.clock.jump_wall(hours * 3_600_000)
        shard.store.tick()
        assert shard.store.numbers().leased == 1


def test_another_incarnation_frees_what_the_old_one_had(shard: Words) -> None:
    """At once, each counted; the same incarnation on a new stream keeps its leases."""
    lease = shard.one(shard.event())
    shard.store.join("poller-0", "a")
    assert shard.store.numbers().leased == 1
    shard.store.join("poller-0", "b")
    assert shard.settle(ack(lease)) == [(0, "RECEIPT_EXPIRED")]
    assert [again.deliveries for again in shard.store.lease("poller-0", 1)] == [1]


def test_a_lease_that_never_left_comes_back_uncounted(shard: Words) -> None:
    lease = shard.one(shard.event())
    shard.store.give_back([lease])
    assert shard.settle(ack(lease)) == [(0, "RECEIPT_EXPIRED")]
    assert shard.one().deliveries == 0


def test_after_a_crash_all_leases_are_free_and_their_receipts_refused(shard: Words) -> None:
    """Fences are never used again, also across a clean end."""
    event = shard.event()
    fences = {shard.one(event).receipt.fence}
    for end in (shard.store.crash, shard.store.reopen, shard.store.crash):
        end()
        lease = shard.one()
        assert lease.receipt.fence not in fences and lease.deliveries == 0
        fences.add(lease.receipt.fence)
    shard.done(ack(lease))


@bounded(max_deliveries=2)
def test_too_many_deliveries_end_in_the_dead_letters(shard: Words) -> None:
    """An event that kills whoever has it is not tried for ever."""
    event = shard.event()
    shard.accept(event)
    for deliveries in range(3):
        assert shard.one().deliveries == deliveries
        shard.wait(TIMEOUT_MS)
    status = shard.status(event)
    assert (shard.state(event), status.deliveries) == ("DEAD", 3)
    assert status.condition == event_pb2.CONDITION_DELIVERIES_EXHAUSTED


# Settle


def test_an_ack_is_the_end(shard: Words) -> None:
    """With a success or a delivered failure; all that is known of the run is kept, also over a crash."""
    good, bad = shard.event(), shard.event("g")
    shard.accept(good, bad)
    by_function = {lease.event.function_name: lease for lease in shard.lease(2)}
    shard.done(ack(by_function["f"]), ack(by_function["g"], EXHAUSTED, destination_arn="arn:x"))
    shard.store.crash()
    assert (shard.state(good), shard.state(bad)) == ("SUCCEEDED", "FAILED")
    status = shard.status(bad)
    assert (status.condition, status.destination_arn, status.attempts) == (EXHAUSTED, "arn:x", 1)
    assert (status.first_started_at_ms, status.duration_us, status.executed_version) == (5, 7, "3")
    assert (status.sandbox_id, status.finished_at_ms) == ("runtime-0/1", shard.store.clock.wall_ms())
    assert shard.store.numbers() == Numbers(0, 0, 0, 0, 0) and shard.lease(1) == []


@pytest.mark.parametrize(
    ("cause", "grown"),
    [
        ("FUNCTION_ERROR", {"function_errors": 1, "attempts": 1}),
        ("THROTTLE", {"throttles": 1}),
        ("UNSTARTED", {}),
        ("DELIVERY_FAILED", {}),
    ],
)
def test_a_release_grows_the_counter_of_its_cause(shard: Words, cause: str, grown: dict[str, int]) -> None:
    event = shard.event()
    shard.done(release(shard.one(event), cause, error_type="E" * 300, error_message="m" * 2_000))
    shard.store.crash()
    lease, status = shard.one(), shard.status(event)
    for name in ("function_errors", "throttles", "deliveries", "attempts"):
        assert getattr(lease, name) == getattr(status, name) == grown.get(name, 0), name
    assert (len(status.error_type), len(status.error_message)) == (256, 1_024)


def test_a_run_ends_a_row_of_throttles(shard: Words) -> None:
    event = shard.event()
    for cause, throttles in (("THROTTLE", 1), ("THROTTLE", 2), ("FUNCTION_ERROR", 0), ("THROTTLE", 1)):
        shard.done(release(shard.one(None if shard.store.status("t", event.request_id) else event), cause))
        assert shard.status(event).throttles == throttles


def test_a_delay_is_kept_to_the_millisecond(shard: Words) -> None:
    """And over a crash."""
    event = shard.event()
    shard.done(release(shard.one(event), "FUNCTION_ERROR", 60_000))
    assert shard.status(event).available_at_ms == shard.store.clock.wall_ms() + 60_000
    assert shard.store.numbers() == Numbers(1, 0, 1, 0, 0)
    shard.store.crash()
    shard.wait(59_999)
    assert (shard.state(event), shard.lease(1)) == ("DELAYED", [])
    shard.wait(1)
    assert shard.one().attempts == 1


def test_no_delay_goes_beyond_the_age(shard: Words) -> None:
    """The event is handed out when its age ends, to be ended."""
    event = shard.event(age_ms=5_000)
    shard.done(release(shard.one(event), "THROTTLE", 60_000))
    shard.wait(5_000)
    assert shard.one().expired


def test_a_handover_is_kept_until_its_end_and_never_run_again(shard: Words) -> None:
    """Over expiry and crash; each part that is confirmed is kept; failed deliveries are counted; it has no age."""
    event = shard.event(age_ms=30_000)
    outcome = event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SUCCEEDED, response_payload=b'{"a":1}')
    shard.done(hand_over(shard.one(event), destination_arn="arn:d", dead_letter_arn="arn:q", outcome=outcome))
    assert (shard.state(event), shard.status(event).attempts) == ("HANDOVER", 1)
    shard.store.crash()
    lease = shard.one()
    assert (lease.handover.outcome, lease.handover.destination_arn) == (outcome, "arn:d")
    for again in (hand_over(lease), confirm(lease, "DEAD_LETTER_QUEUE"), confirm(lease, "DEAD_LETTER_QUEUE")):
        shard.done(again)
    assert shard.status(event).attempts == 1
    shard.done(release(lease, "DELIVERY_REFUSED", 60_000))
    assert (shard.state(event), shard.store.numbers()) == ("HANDOVER", Numbers(1, 0, 1, 0, 1))
    shard.store.crash()
    shard.wait(59_999)
    assert shard.lease(1) == []
    shard.wait(1)
    lease = shard.one()
    assert list(lease.handover.confirmed) == [queue_pb2.HANDOVER_PART_DEAD_LETTER_QUEUE]
    assert (lease.handover.delivery_failures, lease.handover.delivery_refusals) == (1, 1)
    assert lease.handover.destination_arn == "arn:d"
    shard.done(ack(lease, destination_arn="arn:d"))
    assert shard.state(event) == "SUCCEEDED"


def test_each_settlement_of_a_batch_stands_by_itself(shard: Words) -> None:
    shard.accept(shard.event(), shard.event())
    one, two = shard.lease(2)
    nothing = queue_pb2.Settlement(receipt=two.receipt)
    no_cause = queue_pb2.Settlement(receipt=two.receipt, release=queue_pb2.Release())
    no_part = queue_pb2.Settlement(receipt=two.receipt, confirm=queue_pb2.Confirm())
    too_late = release(two, "THROTTLE", 21_600_001)
    refused = shard.settle(ack(one), nothing, no_cause, no_part, too_late, ack(one), ack(two))
    bad = "INVALID_PARAMETER"
    assert refused == [(1, bad), (2, bad), (3, bad), (4, bad), (5, "RECEIPT_EXPIRED")]
    assert shard.store.numbers().depth == 0


@pytest.mark.parametrize("last", [ack, bury, extend, release])
def test_a_lease_may_be_settled_several_times_in_one_batch(shard: Words, last: Any) -> None:
    """One after the other, as if each had come alone; only what comes after its end is stale."""
    event = shard.event()
    shard.accept(event)
    lease = shard.one()
    parts = [
        hand_over(lease, destination_arn="arn:d"),
        confirm(lease),
        confirm(lease, "DEAD_LETTER_QUEUE"),
        confirm(lease),
    ]
    final = release(lease, "UNSTARTED") if last is release else last(lease)
    is_over = last is not extend
    assert shard.settle(*parts, final, confirm(lease)) == ([(5, "RECEIPT_EXPIRED")] if is_over else [])
    states = {ack: "SUCCEEDED", bury: "DEAD", extend: "HANDOVER", release: "HANDOVER"}
    assert shard.state(event) == states[last] and shard.store.numbers().leased == (not is_over)
    shard.store.crash()
    assert shard.state(event) == states[last]
    if last in (extend, release):
        again = shard.one()
        assert len(again.handover.confirmed) == 2 and again.attempts == 1
        shard.done(ack(again))
    assert shard.store.numbers().depth == 0 and shard.lease(1) == []


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_has_1_to_1000_settlements(shard: Words, count: int) -> None:
    settlements = [extend(queue_pb2.Lease())] * count
    answer = shard.store.settle(queue_pb2.SettleRequest(batch_id=1, settlements=settlements))
    assert reason(answer.refusal) == "INVALID_PARAMETER"


# Dead letters and what is known


def dead(shard: Words, *functions: str, error_type: str = "ValueError", tenant: str = "t") -> list[Event]:
    """So many that died one after the other."""
    events = [shard.event(function, tenant=tenant) for function in functions]
    for event in events:
        shard.done(bury(shard.one(event), error_type))
    return events


def listed(shard: Words, page_size: int = 10, page_token: str = "", **which: Any) -> list[bytes]:
    """Ids of a page."""
    page = shard.store.dead_letters(queue_pb2.DeadLetterFilter(**{"tenant_id": "t", **which}), page_size, page_token)
    return [entry.status.request_id for entry in page.dead_letters]


def test_a_dead_letter_is_kept_whole_and_shown_to_its_owner(shard: Words) -> None:
    event = shard.event()
    shard.done(bury(shard.one(event), response=b"x" * 70_000))
    shard.store.crash()
    entry = shard.store.dead_letter("t", event.request_id)
    assert entry is not None and entry.event == event and entry.response_payload == b"x" * 65_536
    assert (entry.status.condition, entry.status.error_type) == (EXHAUSTED, "ValueError")
    assert (entry.status.attempts, entry.status.function_errors) == (1, 1)
    assert entry.dead_at_ms == entry.status.finished_at_ms == shard.store.clock.wall_ms()
    assert shard.store.dead_letter("u", event.request_id) is None
    assert shard.store.numbers() == Numbers(0, 0, 0, 1, 0)


def test_dead_letters_are_listed_oldest_first_by_pages_and_filters(shard: Words) -> None:
    first, second, third = dead(shard, "f", "g", "f")
    (other,) = dead(shard, "f", error_type="KeyError")
    dead(shard, "f", tenant="u")
    every = [event.request_id for event in (first, second, third, other)]
    assert listed(shard) == every
    page = shard.store.dead_letters(queue_pb2.DeadLetterFilter(tenant_id="t"), 3)
    assert not any(entry.HasField("event") for entry in page.dead_letters)
    assert listed(shard, 3) + listed(shard, 3, page.next_page_token) == every
    assert shard.store.dead_letters(queue_pb2.DeadLetterFilter(tenant_id="t"), 4).next_page_token == ""
    assert listed(shard, function_name="g") == [second.request_id]
    assert listed(shard, error_type="KeyError") == listed(shard, request_id=other.request_id) == [other.request_id]
    assert listed(shard, function_name="f", error_type="ValueError") == [first.request_id, third.request_id]
    assert listed(shard, function_name="none") == listed(shard, request_id=other.request_id, function_name="g") == []


def test_a_redrive_gives_a_fresh_life_under_the_same_id(shard: Words) -> None:
    """The oldest first, no counters, the same age from now on; another tenant's and other functions' stay."""
    first, second, other = dead(shard, "f", "f", "g")
    shard.wait(5_000)
    which = queue_pb2.DeadLetterFilter(tenant_id="t", function_name="f")
    assert shard.store.redrive(queue_pb2.DeadLetterFilter(tenant_id="u"), 10) == 0
    assert shard.store.redrive(which, 1) == 1
    shard.store.crash()
    assert (shard.state(first), shard.state(second), shard.state(other)) == ("AVAILABLE", "DEAD", "DEAD")
    lease, now_ms = shard.one(), shard.store.clock.wall_ms()
    assert (lease.attempts, lease.function_errors, lease.enqueued_at_ms) == (0, 0, now_ms)
    assert (lease.event.accepted_at_ms, lease.event.expires_at_ms) == (now_ms, now_ms + 21_600_000)
    assert (lease.event.request_id, lease.event.payload) == (first.request_id, first.payload)
    shard.done(ack(lease))
    assert shard.store.redrive(which, 10) == 1 and shard.store.redrive(which, 10) == 0


def test_a_purged_dead_letter_is_gone(shard: Words) -> None:
    """And its id is new again."""
    first, second = dead(shard, "f", "f")
    assert shard.store.purge(queue_pb2.DeadLetterFilter(tenant_id="t"), 1) == 1
    shard.store.crash()
    assert (shard.state(first), shard.state(second)) == ("GONE", "DEAD")
    shard.accept(first)


def test_events_are_listed_newest_first_to_their_owner(shard: Words) -> None:
    """In whatever state."""
    events = []
    for function in ("f", "g", "f", "f"):
        events.append(shard.event(function))
        shard.accept(events[-1])
        shard.wait(1)
    shard.done(*(ack(lease) for lease in shard.lease(1)), *(bury(lease) for lease in shard.lease(1)))
    shard.accept(shard.event(tenant="u"))
    newest = [event.request_id for event in reversed(events)]
    assert [status.request_id for status in shard.store.list_events("t", "", 10)] == newest
    assert [status.request_id for status in shard.store.list_events("t", "", 2)] == newest[:2]
    assert [status.request_id for status in shard.store.list_events("t", "g", 10)] == [events[1].request_id]
    assert shard.store.list_events("t", "none", 10) == []
    assert shard.store.status("u", events[0].request_id) is None


@bounded(outcome_keep_seconds=KEEP_SECONDS, dead_letter_keep_seconds=KEEP_SECONDS)
def test_what_is_over_is_known_for_its_time_and_then_goes(shard: Words) -> None:
    finished, died = shard.event(), shard.event()
    shard.done(ack(shard.one(finished)))
    shard.done(bury(shard.one(died)))
    shard.wait(KEEP_SECONDS * 1_000 - 1)
    assert (shard.state(finished), shard.state(died)) == ("SUCCEEDED", "DEAD")
    # A store may drop outcomes in stretches: once later ones are old, this one is gone.
    shard.done(ack(shard.one(shard.event())))
    shard.wait(2 * KEEP_SECONDS * 1_000)
    shard.done(ack(shard.one(shard.event())))
    shard.wait(2_000)
    assert (shard.state(finished), shard.state(died)) == ("GONE", "GONE")


@bounded(outcome_max_rows=16)
def test_outcomes_are_bounded_in_number(shard: Words) -> None:
    """The newest ones stay."""
    events = [shard.event() for _ in range(60)]
    for event in events:
        shard.done(ack(shard.one(event)))
        shard.wait(1_001)
    known = [shard.state(event) == "SUCCEEDED" for event in events]
    assert 8 <= sum(known) <= 18 and all(known[-8:]) and not any(known[:40])
