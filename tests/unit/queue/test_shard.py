"""The shard, state by state, on a real file."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from evenflow.queue.v1 import queue_pb2

from services.queue import dead_letters
from services.queue.ageing import EXPIRY_BATCH
from services.queue.database import DiskFull
from services.queue.domain import Call, Cause, EnqueueResult, Wake
from services.queue.identity import Manifest, ShardDamaged, open_verified, shard_path
from services.shared import ids
from services.shared.errors import Reason
from tests.unit.queue.kit import Bench, ack, bury, confirm, extend, hand_over, release


@pytest.fixture
def bench(run_dir: Path) -> Iterator[Bench]:
    made = Bench(run_dir)
    yield made
    made.shard.database.close()


def test_an_acknowledged_event_is_gone_and_its_outcome_is_known(bench: Bench) -> None:
    event = bench.event()
    assert bench.enqueue(event).depth == 1
    (lease,) = bench.lease()
    assert lease.event == event
    assert not bench.settle(ack(lease)).refusals
    assert bench.shard.depth == 0
    status = bench.status(event.request_id)
    assert status is not None and status.state == queue_pb2.EVENT_STATE_SUCCEEDED
    assert (status.attempts, status.first_started_at_ms, status.sandbox_id) == (1, 5, "r/1")
    assert bench.status(event.request_id, tenant="other") is None


def test_outcomes_are_counted_until_they_are_dropped(bench: Bench) -> None:
    """One goes with its stretch, once a later stretch has been open for as long as outcomes are kept."""
    keep_ms = bench.settings.outcome_keep_seconds * 1_000
    for kept in (1, 2):
        bench.enqueue(bench.event())
        bench.settle(*(ack(lease) for lease in bench.lease()))
        assert bench.shard.stats().outcomes == kept
        bench.clock.advance(keep_ms // 2)
    bench.clock.advance(keep_ms // 2 + 1_000)
    bench.drain()
    assert bench.shard.stats().outcomes == 1


def test_many_batches_are_one_transaction(bench: Bench) -> None:
    found: list[EnqueueResult] = []
    before = bench.shard.database.connection.total_changes()
    commits = 0
    commit = bench.shard.database.commit

    def counted() -> None:
        nonlocal commits
        commits += 1
        commit()

    bench.shard.database.commit = counted  # type: ignore[method-assign]
    bench.drain(*(bench.batch([bench.event()], found) for _ in range(50)))
    assert len(found) == 50 and commits == 1
    assert bench.shard.database.connection.total_changes() > before


def test_a_stale_receipt_is_refused_alone(bench: Bench) -> None:
    bench.enqueue(bench.event(), bench.event())
    first, second = bench.lease(2)
    bench.clock.advance(bench.settings.visibility_timeout_ms + 1)
    bench.drain()
    again = bench.lease(2)
    assert [lease.deliveries for lease in again] == [1, 1]
    assert [lease.event.request_id for lease in again] == [first.event.request_id, second.event.request_id]
    stale = ack(first)
    fresh = ack(again[1])._replace(position=1)
    result = bench.settle(stale, fresh)
    assert [(index, error.reason) for index, error in result.refusals] == [(0, Reason.ERROR_REASON_RECEIPT_EXPIRED)]
    assert bench.shard.depth == 1


def test_a_receipt_of_an_earlier_start_is_refused(bench: Bench) -> None:
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    bench.crash()
    (again,) = bench.lease()
    assert again.receipt.sequence == lease.receipt.sequence
    assert bench.settle(ack(lease)).refusals
    assert not bench.settle(ack(again)).refusals


def test_extend_starts_the_lease_anew(bench: Bench) -> None:
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    for _ in range(3):
        bench.clock.advance(bench.settings.visibility_timeout_ms - 100)
        assert not bench.settle(extend(lease)).refusals
    bench.drain()
    assert not bench.settle(ack(lease)).refusals


def test_a_wall_clock_that_jumps_ends_no_lease_and_no_event(bench: Bench) -> None:
    bench.enqueue(bench.event(age_ms=60_000))
    (lease,) = bench.lease()
    bench.clock.jump_wall(3_600_000)
    bench.clock.advance(100)
    bench.drain()
    assert not bench.settle(release(lease, Cause.UNSTARTED)).refusals
    assert not bench.lease()[0].expired


def test_too_many_deliveries_end_in_the_dead_letters(run_dir: Path) -> None:
    bench = Bench(run_dir, max_deliveries=2)
    event = bench.event()
    bench.enqueue(event)
    for _ in range(3):
        assert len(bench.lease()) == 1
        bench.clock.advance(bench.settings.visibility_timeout_ms + 1)
        bench.drain()
    status = bench.status(event.request_id)
    assert status is not None and status.state == queue_pb2.EVENT_STATE_DEAD and status.deliveries == 3
    assert not bench.lease()
    assert bench.shard.depth == 0


def test_a_function_error_comes_back_at_its_time(bench: Bench) -> None:
    event = bench.event()
    bench.enqueue(event)
    bench.settle(release(bench.lease()[0], Cause.FUNCTION_ERROR, 60_000))
    status = bench.status(event.request_id)
    assert status is not None and status.state == queue_pb2.EVENT_STATE_DELAYED
    assert status.available_at_ms == bench.clock.wall_ms() + 60_000
    bench.clock.advance(59_999)
    bench.drain()
    assert not bench.lease()
    bench.crash()
    assert bench.shard.seconds_until_due() == 0.0
    bench.drain()
    assert 0 < bench.shard.seconds_until_due() <= 0.001
    bench.clock.advance(1)
    bench.drain()
    (lease,) = bench.lease()
    assert (lease.function_errors, lease.attempts, lease.throttles, lease.deliveries) == (1, 1, 0, 0)
    assert lease.event == event


def test_each_cause_grows_its_own_counter(bench: Bench) -> None:
    bench.enqueue(bench.event())
    bench.settle(release(bench.lease()[0], Cause.THROTTLE))
    bench.settle(release(bench.lease()[0], Cause.THROTTLE))
    (lease,) = bench.lease()
    assert (lease.throttles, lease.function_errors) == (2, 0)
    bench.settle(release(lease, Cause.UNSTARTED))
    bench.settle(release(bench.lease()[0], Cause.FUNCTION_ERROR))
    (lease,) = bench.lease()
    assert (lease.throttles, lease.function_errors, lease.deliveries, lease.attempts) == (0, 1, 0, 1)


def test_a_handover_survives_a_crash_and_is_not_run_again(bench: Bench) -> None:
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    assert not bench.settle(hand_over(lease)).refusals
    assert bench.shard.stats().handovers == 1
    bench.crash()
    assert bench.shard.stats().handovers == 1
    (lease,) = bench.lease()
    assert lease.handover.destination_arn == "arn:x"
    bench.settle(release(lease, Cause.DELIVERY_FAILED, 1_000))
    assert bench.status(lease.event.request_id).state == queue_pb2.EVENT_STATE_HANDOVER  # type: ignore[union-attr]
    bench.clock.advance(1_000)
    bench.drain()
    (lease,) = bench.lease()
    assert lease.handover.delivery_failures == 1
    assert not bench.settle(ack(lease)).refusals
    assert bench.shard.stats().handovers == 0


def test_what_one_part_has_is_stored_and_the_lease_goes_on(bench: Bench) -> None:
    """Between a dead-letter queue and a destination a crash repeats only what was not confirmed."""
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    bench.settle(hand_over(lease))
    assert not bench.settle(confirm(lease)).refusals
    assert not bench.settle(confirm(lease)).refusals
    assert bench.shard.stats().leased == 1
    bench.crash()
    (lease,) = bench.lease()
    assert list(lease.handover.confirmed) == [queue_pb2.HANDOVER_PART_DEAD_LETTER_QUEUE]
    assert (lease.handover.destination_arn, lease.attempts) == ("arn:x", 1)
    assert not bench.settle(ack(lease)).refusals


def test_a_record_waits_its_time_also_past_the_age_of_its_event(bench: Bench) -> None:
    """An event that comes to its age while delayed is handed out to be ended; a record only has a next try."""
    bench.enqueue(bench.event(age_ms=1_000))
    (lease,) = bench.lease()
    bench.settle(hand_over(lease))
    bench.settle(release(lease, Cause.DELIVERY_FAILED, 60_000))
    bench.clock.advance(59_000)
    bench.drain()
    assert bench.lease() == []
    bench.clock.advance(1_000)
    bench.drain()
    (lease,) = bench.lease()
    assert lease.handover.delivery_failures == 1


def test_refusals_for_good_are_counted_apart(bench: Bench) -> None:
    """A destination that was down for long has not refused anything yet."""
    bench.enqueue(bench.event())
    (lease,) = bench.lease()
    bench.settle(hand_over(lease))
    for cause in (Cause.DELIVERY_FAILED, Cause.DELIVERY_FAILED, Cause.DELIVERY_REFUSED):
        bench.settle(release(lease, cause))
        (lease,) = bench.lease()
    assert (lease.handover.delivery_failures, lease.handover.delivery_refusals) == (3, 1)


def test_a_repeated_token_is_one_event_and_another_body_is_refused(bench: Bench) -> None:
    event = bench.event(token="a")
    again = bench.event(token="a")
    other = bench.event(token="a", payload=b"[]")
    assert bench.enqueue(event, again).duplicate_indexes == [1]
    assert bench.enqueue(again).duplicate_indexes == [0]
    refusals = bench.enqueue(other).event_refusals
    assert [error.reason for _, error in refusals] == [Reason.ERROR_REASON_TOKEN_REUSED]
    assert bench.shard.depth == 1
    bench.settle(ack(bench.lease()[0]))
    assert bench.enqueue(again).duplicate_indexes == [0]
    assert bench.enqueue(other).event_refusals
    assert bench.shard.depth == 0


def test_a_repeated_minted_id_is_stored_once_in_every_state(bench: Bench) -> None:
    event = bench.event()
    bench.enqueue(event)
    bench.settle(release(bench.lease()[0], Cause.THROTTLE, 1_000))
    assert bench.enqueue(event).duplicate_indexes == [0]
    bench.clock.advance(1_000)
    bench.drain()
    bench.settle(ack(bench.lease()[0]))
    assert bench.enqueue(event).duplicate_indexes == [0]
    bench.crash()
    assert bench.enqueue(event).duplicate_indexes == [0]
    assert bench.shard.depth == 0
    later = bench.event()
    bench.enqueue(later)
    bench.settle(bury(bench.lease()[0]))
    assert bench.enqueue(later).duplicate_indexes == [0]


def test_tenants_take_turns_whatever_their_backlog(bench: Bench) -> None:
    bench.enqueue(*(bench.event(tenant="loud", function=f"f{i % 3}") for i in range(300)))
    bench.enqueue(*(bench.event(tenant="quiet") for _ in range(20)))
    taken = Counter(lease.event.tenant_id for lease in bench.lease(40))
    assert taken == {"loud": 20, "quiet": 20}


def test_a_limit_holds_over_polls_and_a_paused_function_stays(bench: Bench) -> None:
    bench.enqueue(*(bench.event(function="slow") for _ in range(10)), *(bench.event(function="fast") for _ in range(3)))
    session = bench.poller()
    session.set_limit(("t", "slow"), 2)
    bench.credit(session, 100)
    leases = bench.take()
    assert Counter(lease.event.function_name for lease in leases) == {"slow": 2, "fast": 3}
    bench.settle(*(ack(lease) for lease in leases if lease.event.function_name == "slow"))
    assert len(bench.take()) == 2
    session.set_limit(("t", "slow"), None)
    bench.credit(session, 1)
    assert len(bench.take()) == 6


def test_one_pollers_pause_keeps_nothing_from_another(bench: Bench) -> None:
    """A lane comes round often while others give: that must not count as so many pollers that may not have it."""
    bench.enqueue(*(bench.event(function="paused") for _ in range(8)), *(bench.event(function="f") for _ in range(40)))
    paused = bench.poller("poller-0")
    paused.set_limit(("t", "paused"), 0)
    other = bench.poller("poller-1")
    bench.credit(paused, 100)
    assert {lease.event.function_name for lease in bench.take("poller-0")} == {"f"}
    # As a credit wakes a shard, which looks again at nothing that was set aside.
    other.add_credit(100, 1 << 26)
    bench.drain(Wake())
    assert Counter(lease.event.function_name for lease in bench.take("poller-1"))["paused"] == 8


def test_events_past_their_age_are_handed_out_though_paused(bench: Bench) -> None:
    bench.enqueue(*(bench.event(age_ms=1_000) for _ in range(5)), *(bench.event() for _ in range(5)))
    session = bench.poller()
    session.set_limit(("t", "f"), 0)
    bench.credit(session, 100)
    assert not bench.take()
    bench.clock.advance(1_000)
    bench.drain()
    leases = bench.take()
    assert len(leases) == 5 and all(lease.expired for lease in leases)
    bench.settle(*(bury(lease) for lease in leases))
    session.set_limit(("t", "f"), None)
    bench.credit(session, 1)
    assert len(bench.take()) == 5
    assert bench.shard.depth == 5


def test_a_new_incarnation_frees_the_leases_of_the_old_one(bench: Bench) -> None:
    bench.enqueue(bench.event())
    bench.poller(credit=1)
    (lease,) = bench.take()
    bench.poller(incarnation="b", credit=1)
    (again,) = bench.take()
    assert again.deliveries == 1
    assert bench.settle(ack(lease)).refusals


def test_dead_letters_are_listed_redriven_and_purged(bench: Bench) -> None:
    events = [bench.event() for _ in range(5)]
    bench.enqueue(*events)
    bench.settle(*(bury(lease) for lease in bench.lease(5)))
    everything = dead_letters.Filter("t")
    page, token = dead_letters.page(bench.shard, everything, 0, 3)
    rest, end = dead_letters.page(bench.shard, everything, token, 3)
    assert [d.status.request_id for d in page + rest] == [e.request_id for e in events] and end == 0
    whole = dead_letters.show(bench.shard, "t", events[0].request_id)
    assert whole is not None and whole.event == events[0] and whole.response_payload == b"out"
    bench.clock.advance(40_000_000)
    moved: list[object] = []
    one = dead_letters.Filter("t", request_id=events[0].request_id)
    bench.drain(Call(lambda s: dead_letters.redrive(s, one, 10), lambda r, _e: moved.append(r), writes=True))
    assert moved == [1]
    (lease,) = bench.lease()
    assert lease.event.request_id == events[0].request_id and not lease.expired and lease.attempts == 0
    bench.drain(Call(lambda s: dead_letters.purge(s, everything, 10), lambda r, _e: moved.append(r), writes=True))
    assert moved == [1, 4] and bench.shard.stats().dead_letters == 0


def test_the_backlog_stays_on_disk_and_in_order(run_dir: Path) -> None:
    bench = Bench(run_dir, window_events=8, window_bytes=65_536)
    events = [bench.event() for _ in range(300)]
    bench.enqueue(*events)
    lane = bench.shard.lanes.by_key["t", "f"]
    assert len(lane.ready) == 8
    leases = bench.lease(300)
    assert [lease.event.request_id for lease in leases] == [e.request_id for e in events]
    bench.crash()
    assert bench.shard.depth == 300 and not bench.shard.leases
    assert [x.event.request_id for x in bench.lease(300)] == [e.request_id for e in events]


def test_bounds_are_typed_refusals(run_dir: Path) -> None:
    bench = Bench(run_dir, tenant_max_events=2, shard_max_events=3)
    result = bench.enqueue(*(bench.event() for _ in range(3)))
    assert [(i, e.reason) for i, e in result.event_refusals] == [(2, Reason.ERROR_REASON_TENANT_QUEUE_FULL)]
    bench.enqueue(bench.event(tenant="u"))
    refusal = bench.enqueue(bench.event(tenant="u")).refusal
    assert refusal is not None and refusal.reason == Reason.ERROR_REASON_SHARD_FULL and refusal.retry_after_ms > 0


def test_outcomes_are_bounded_in_rows_and_age(run_dir: Path) -> None:
    bench = Bench(run_dir, outcome_max_rows=80, outcome_keep_seconds=100)
    session = bench.poller(credit=10_000)
    for _ in range(20):
        bench.enqueue(*(bench.event() for _ in range(10)))
        bench.settle(*(ack(lease) for lease in bench.take()))
        bench.clock.advance(1_001)
        bench.drain()
    assert 60 <= bench.shard.outcomes.rows <= 90
    rows = bench.shard.outcomes.rows
    session.clear_credit()
    bench.crash()
    assert bench.shard.outcomes.rows == rows
    bench.clock.advance(300_000)
    bench.drain()
    assert bench.shard.outcomes.rows <= 10


def test_a_draining_shard_settles_but_takes_and_gives_nothing(bench: Bench) -> None:
    bench.enqueue(bench.event(), bench.event())
    (lease,) = bench.lease()
    bench.shard.is_draining = True
    refusal = bench.enqueue(bench.event()).refusal
    assert refusal is not None and refusal.reason == Reason.ERROR_REASON_DRAINING
    assert not bench.lease()
    assert not bench.settle(ack(lease)).refusals


def test_a_full_disk_refuses_events_but_settles(bench: Bench) -> None:
    bench.enqueue(*(bench.event(payload=b'"' + b"x" * 2_000 + b'"') for _ in range(50)))
    (lease,) = bench.lease()
    database = bench.shard.database
    database.connection.execute(f"PRAGMA max_page_count = {database.value('PRAGMA page_count') + 2}")
    big = [bench.event(payload=b'"' + b"x" * 100_000 + b'"') for _ in range(3)]
    refusal = bench.enqueue(*big).refusal
    assert refusal is not None and refusal.reason == Reason.ERROR_REASON_DISK_FULL
    assert bench.shard.depth == 50
    assert not bench.settle(ack(lease)).refusals
    database.connection.execute("PRAGMA max_page_count = 1000000")
    bench.clock.advance(2_000)
    bench.drain()
    assert bench.enqueue(*big).refusal is None


def test_a_shard_that_cannot_do_what_is_due_waits_and_does_not_spin(bench: Bench) -> None:
    bench.enqueue(bench.event())
    bench.settle(release(bench.lease()[0], Cause.THROTTLE, 5_000))
    database = bench.shard.database

    def refuse() -> None:
        database.rollback()
        raise DiskFull("no room")

    database.commit = refuse  # type: ignore[method-assign]
    bench.clock.advance(5_000)
    bench.drain()
    # Once more at once, for the housekeeping that may free some space.
    bench.drain()
    assert bench.shard.seconds_until_due() >= 0.9
    del database.commit
    bench.clock.advance(1_000)
    bench.drain()
    assert len(bench.lease()) == 1


def test_a_shard_with_a_full_hand_of_expired_events_waits_for_a_poller(bench: Bench) -> None:
    for _ in range(2):
        bench.enqueue(*(bench.event(age_ms=1_000) for _ in range(300)))
    bench.clock.advance(1_001)
    bench.drain()
    assert len(bench.shard.expired) == EXPIRY_BATCH
    bench.clock.advance(20_000)
    bench.drain()
    assert bench.shard.seconds_until_due() > 0.5
    session = bench.poller(credit=600)
    assert len(bench.take()) == 600
    session.clear_credit()


@pytest.mark.parametrize("fault", ["missing", "foreign", "garbage", "old copy"])
def test_a_file_that_is_not_ours_is_never_served(bench: Bench, fault: str) -> None:
    bench.enqueue(bench.event())
    path = shard_path(bench.directory, 0)
    bench.close()
    copy = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "foreign":
        path.rename(shard_path(bench.directory, 1))
        path = shard_path(bench.directory, 1)
    elif fault == "garbage":
        path.write_bytes(b"\x00" * 4_096 + copy[4_096:])
    else:
        bench.open()
        bench.enqueue(bench.event())
        bench.close()
        path.write_bytes(copy)
        Path(f"{path}-wal").unlink(missing_ok=True)
    with pytest.raises(ShardDamaged):
        open_verified(bench.directory, 1 if fault == "foreign" else 0, Manifest(bench.directory), 1 << 20)
    assert fault == "missing" or path.exists()
    bench.shard.database.close()


def test_ids_of_other_shards_are_refused_one_by_one(bench: Bench) -> None:
    wrong = bench.event()
    wrong.request_id = ids.mint(bench.clock.wall_ms(), 3)
    result = bench.enqueue(wrong, bench.event())
    assert [(i, e.reason) for i, e in result.event_refusals] == [(0, Reason.ERROR_REASON_INVALID_PARAMETER)]
    assert bench.shard.depth == 1


def test_a_lane_that_gave_up_its_window_leases_no_event_twice(run_dir: Path) -> None:
    bench = Bench(run_dir, window_events=4)
    events = [bench.event() for _ in range(12)]
    bench.enqueue(*events)
    first = bench.lease(6)
    lane = bench.shard.lanes.by_key["t", "f"]
    bench.shard.lanes.evict(lane)
    rest = bench.lease(12)
    assert [x.event.request_id for x in first + rest] == [e.request_id for e in events]
    assert bench.shard.lanes.resident_bytes == 0


def test_a_delayed_event_is_handed_out_when_its_age_ends(bench: Bench) -> None:
    bench.enqueue(bench.event(age_ms=5_000))
    bench.settle(release(bench.lease()[0], Cause.THROTTLE, 60_000))
    bench.clock.advance(5_000)
    bench.drain()
    (lease,) = bench.lease()
    assert lease.expired and lease.throttles == 1
