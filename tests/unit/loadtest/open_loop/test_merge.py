"""What drivers found is put together and judged: latencies from the intended send, exact counts, honest verdicts."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.arrivals.shapes import Shape
from loadtest.open_loop import outcomes, result, sample, spec
from loadtest.open_loop.merge import Followed, Merged, conclude, merge
from loadtest.open_loop.outcomes import CONNECTION, MAX_REASONS, Outcomes, Part
from loadtest.open_loop.result import latency
from loadtest.open_loop.spec import LoadSpec, Traffic
from loadtest.open_loop.validity import LATE_MS, void_reasons
from loadtest.workloads.work import Work

MS = 1_000_000
SPEC = LoadSpec("127.0.0.1", 1, 2, traffic=Traffic(Shape("constant", 10.0), 2.0), warm_up_seconds=0.0)


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def driver(numbers: Sequence[int], due_ms: Sequence[int], tenants: Sequence[int] = ()) -> tuple[Outcomes, Clock]:
    clock = Clock()
    found = Outcomes(0.0, clock)
    found.plan(numbers, tenants or [0] * len(numbers), [one * MS for one in due_ms])
    return found, clock


def unknown(merged: Merged) -> Followed:
    """Nobody looked for their starts."""
    none = np.full(len(merged.numbers), np.nan)
    return Followed(none, none, np.zeros(len(none), dtype=np.bool_), np.array([]), 0, 0.0)


def test_each_kind_of_end_is_counted() -> None:
    one, clock = driver([0, 2, 4, 6, 8], [0, 100, 200, 300, 400])
    for place in range(5):
        clock.now_ns = one.due_ns[place] + (50 * MS if place == 2 else MS)
        one.dropped(place) if place == 3 else one.sent(place)
    clock.now_ns = 1_000 * MS
    one.accepted(0)
    one.refused(1, "THROTTLED")
    one.unanswered(2)
    assert one.under_way == 1
    two, clock = driver([1, 3], [50, 150])
    two.sent(0)
    two.sent(1)
    clock.now_ns = 500 * MS
    two.refused(0, CONNECTION)
    two.refused(1, "THROTTLED")
    merged = merge([one.part(0.2), two.part(0.4)])
    found = conclude(SPEC, merged, unknown(merged))
    assert (found.planned, found.sent, found.dropped, found.accepted, found.unanswered) == (7, 6, 1, 1, 2)
    assert found.refused == {"THROTTLED": 2, CONNECTION: 1}
    # The one that left 50 ms after its time.
    assert found.late == 1 and found.generator_cpu == 0.4
    # The accepted one, and two that were given up: one at 1,000 ms as told, one at the end.
    assert found.accept is not None and found.accept.max_ms == 1_000.0
    assert found.accept.count == 3 and found.accept.p50_ms == 800.0
    assert found.sent == found.accepted + sum(found.refused.values()) + found.unanswered
    assert found.void == void_reasons(7, 1, 0.4)
    assert found.error_part == 6 / 7


def test_events_without_an_answer_count_until_they_were_given_up() -> None:
    """Told by a door that stands still: its few quick answers are not all there is."""
    one, clock = driver(range(10), [0] * 10)
    for place in range(10):
        one.sent(place)
    clock.now_ns = 5 * MS
    for place in range(4):
        one.accepted(place)
    clock.now_ns = 30_000 * MS
    merged = merge([one.part(0.0)])
    found = conclude(SPEC, merged, unknown(merged))
    assert found.unanswered == 6 and found.accept is not None
    assert (found.accept.count, found.accept.p50_ms, found.accept.p99_ms) == (10, 30_000.0, 30_000.0)


def test_answers_behind_the_schedules_end_are_no_throughput() -> None:
    """A door of 200/s that is offered 300/s for 10 s gives 200/s, whenever the rest is answered."""
    one, clock = driver(range(3_000), [int(number / 0.3) for number in range(3_000)])
    for place in range(3_000):
        clock.now_ns = one.due_ns[place]
        one.sent(place)
    for place in range(3_000):
        clock.now_ns = max(one.due_ns[place], place * 5 * MS)
        one.accepted(place)
    merged = merge([one.part(0.0)])
    spec_of_10 = replace(SPEC, traffic=Traffic(Shape("constant", 300.0), 10.0))
    found = conclude(spec_of_10, merged, unknown(merged))
    assert found.accepted == 3_000 and found.answered == 2_000
    assert found.accepted_per_second == 200.0 and found.planned_per_second == 300.0


def test_sends_that_are_dropped_in_time_are_errors_and_no_reason_to_void() -> None:
    """The fleet did not answer, so that there was no room; where it was the driver that stood still, it is late."""
    one, clock = driver(range(100), [number * 10 for number in range(100)])
    for place in range(100):
        clock.now_ns = one.due_ns[place] + (20 * MS if place == 99 else 0)
        one.sent(place) if place < 10 else one.dropped(place)
    merged = merge([one.part(0.0)])
    found = conclude(SPEC, merged, unknown(merged))
    assert (found.sent, found.dropped, found.late, found.void) == (10, 90, 1, ())
    assert found.error_part == 1.0


def test_handlers_that_fail_unasked_are_counted() -> None:
    one, _ = driver(range(3), [0] * 3)
    for place in range(3):
        one.sent(place)
    one.accepted(0)
    one.failed(1)
    one.refused(2, "THROTTLED")
    merged = merge([one.part(0.0)])
    found = conclude(SPEC, merged, unknown(merged))
    assert (found.accepted, found.answered, found.handler_failures) == (2, 2, 1)
    assert found.error_part == 2 / 3


def test_latency_counts_from_the_intended_send_and_not_from_the_real_one() -> None:
    one, clock = driver([0], [100])
    clock.now_ns = 900 * MS
    one.sent(0)
    clock.now_ns = 950 * MS
    one.accepted(0)
    merged = merge([one.part(0.0)])
    found = conclude(SPEC, merged, unknown(merged))
    assert found.accept is not None and found.accept.p50_ms == 850.0


def test_the_warm_up_is_sent_and_not_counted() -> None:
    one, clock = driver([0, 1, 2], [0, 999, 1_000])
    for place in range(3):
        one.sent(place)
        clock.now_ns = 1_500 * MS
        one.accepted(place)
    merged = merge([one.part(0.0)])
    found = conclude(replace(SPEC, warm_up_seconds=1.0), merged, unknown(merged))
    assert (found.planned, found.sent, found.accepted) == (1, 1, 1)
    assert found.seconds == 1.0 and found.accepted_per_second == 1.0


def test_starts_of_accepted_events_are_told_by_tenant() -> None:
    one, clock = driver(range(6), [0] * 6, [3, 3, 3, 1, 1, 2])
    for place in range(6):
        one.sent(place)
        clock.now_ns = (place + 1) * MS
        one.accepted(place) if place != 2 else one.refused(place, "X")
    merged = merge([one.part(0.0)])
    start_ms = np.array([10.0, 20.0, 30.0, 40.0, np.nan, 60.0])
    gave_up_ms = np.full(6, 9_000.0)
    is_followed = np.ones(6, dtype=np.bool_)
    found = conclude(SPEC, merged, Followed(start_ms, gave_up_ms, is_followed, np.array([70.0]), 3, 1.5, 4))
    # One was refused; one never started, and counts until it was given up.
    assert found.start is not None and found.start.count == 5 and found.start.max_ms == 9_000.0
    assert (found.not_started, found.not_settled, found.completed) == (1, 3, 4)
    assert found.error_part == 2 / 6
    assert {name: one["accept"].count for name, one in found.by_tenant.items()} == {"3": 2, "1": 2, "2": 1}
    assert {name: one["start"].count for name, one in found.by_tenant.items()} == {"3": 2, "1": 2, "2": 1}
    assert found.settled is not None and found.settled.count == 1 and found.drained_seconds == 1.5
    assert result.from_json(json.loads(json.dumps(result.as_json(found)))) == found


def test_the_noisy_tenant_is_told_apart_from_the_others() -> None:
    """It is the last one; also of tenants beyond those that are told one by one."""
    one, clock = driver(range(40), [0] * 40, [*range(30), *[30] * 10])
    for place in range(40):
        one.sent(place)
        clock.now_ns = (place + 1) * MS
        one.accepted(place)
    merged = merge([one.part(0.0)])
    noisy = replace(SPEC, traffic=Traffic(Shape("constant", 10.0), 2.0, tenants=30, noisy_part=0.25))
    found = conclude(noisy, merged, unknown(merged))
    assert {name: kinds["accept"].count for name, kinds in found.groups.items()} == {"noisy": 10, "others": 30}
    assert found.groups["others"]["accept"].max_ms == 30.0
    assert result.from_json(json.loads(json.dumps(result.as_json(found)))) == found
    assert not conclude(SPEC, merged, unknown(merged)).groups


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4_000)), min_size=1, max_size=60), st.integers(1, 4))
def test_how_events_are_shared_over_drivers_changes_nothing(events: list[tuple[int, int]], count: int) -> None:
    """Latencies are put together as they are, never through quantiles."""

    def found_by(drivers: int) -> result.LoadResult:
        parts: list[Part] = []
        for index in range(drivers):
            mine = range(index, len(events), drivers)
            one, clock = driver(list(mine), [0] * len(mine))
            for place, number in enumerate(mine):
                kind, waited_ms = events[number]
                clock.now_ns = 0
                one.sent(place)
                clock.now_ns = waited_ms * MS
                if kind < 3:
                    one.accepted(place)
                else:
                    one.refused(place, f"reason {kind}")
            parts.append(one.part(0.1))
        merged = merge(parts)
        return conclude(SPEC, merged, unknown(merged))

    alone, shared = found_by(1), found_by(min(count, len(events)))
    if alone.accept is not None and shared.accept is not None:
        # A mean depends on the order of its sum.
        assert alone.accept.mean_ms == pytest.approx(shared.accept.mean_ms)
        shared = replace(shared, accept=replace(shared.accept, mean_ms=alone.accept.mean_ms))
    assert shared == alone


def test_reasons_have_a_bound() -> None:
    one, _ = driver(range(300), [0] * 300)
    for place in range(300):
        one.sent(place)
        one.refused(place, f"reason {place}")
    part = one.part(0.0)
    assert len(part.reasons) <= MAX_REASONS + 1 and outcomes.OTHER in part.reasons


def test_a_part_goes_through_its_file(tmp_path: Path) -> None:
    one, clock = driver([4, 9], [1, 2], [0, 3])
    one.sent(0)
    clock.now_ns = 7 * MS
    one.accepted(0)
    one.remember(0, "an id")
    told = one.part(0.25)
    outcomes.save(told, tmp_path / "part.npz")
    found = outcomes.load(tmp_path / "part.npz")
    for name in ("numbers", "tenants", "due_ns", "sent_ns", "answered_ns", "codes"):
        assert np.array_equal(getattr(found, name), getattr(told, name)), name
    assert (found.ids, found.cpu, found.reasons) == ({4: "an id"}, 0.25, ())


def test_the_sample_is_of_the_plan_however_late_the_answers_are() -> None:
    """All of it answered at one moment, after a freeze: by gaps between answers a single one would be chosen."""
    clock = Clock()
    one = Outcomes(clock=clock)
    sampled = sample.draw(30, 70, 14, "1").tolist()
    one.plan(range(100), [0] * 100, [0] * 100, sampled)
    for place in range(100):
        one.sent(place)
    clock.now_ns = 5_000 * MS
    assert [place for place in range(100) if one.accepted(place)] == sampled


def test_a_closed_loops_sample_keeps_its_rate_and_leaves_the_warm_up_out() -> None:
    """By the moments of sending."""
    clock = Clock()
    one = Outcomes(2.0, clock)
    one.sample_from(3_000 * MS)
    for number in range(100):
        clock.now_ns = number * 100 * MS
        one.sent(one.add(number, 0))
    assert [place for place in range(100) if one.accepted(place)] == list(range(30, 100, 5))


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(0, 400), st.floats(0, 500), st.integers(0, 3))
def test_one_is_drawn_of_each_stretch(first: int, events: int, wanted: float, seed: int) -> None:
    found = sample.draw(first, events, wanted, str(seed))
    assert len(found) == min(events, np.ceil(wanted))
    assert np.array_equal(found, sample.draw(first, events, wanted, str(seed)))
    for place, number in enumerate(found):
        assert place * events // len(found) <= number - first < (place + 1) * events // len(found)


def test_the_sample_has_a_bound() -> None:
    assert len(sample.draw(0, 10**6, 1e9, "1")) == sample.MAX_SAMPLED


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_quantiles_are_values_that_enough_do_not_exceed(values: list[float]) -> None:
    given_ms = np.array(values)
    found = latency(given_ms)
    assert found is not None and found.count == len(values) and found.max_ms == max(values)
    for part, value in ((0.5, found.p50_ms), (0.9, found.p90_ms), (0.99, found.p99_ms), (0.999, found.p999_ms)):
        assert value in given_ms
        assert np.mean(given_ms <= value) >= part - 1e-12
        assert np.mean(given_ms < value) < part
    assert sum(count for _, count in found.histogram) == len(values)
    reached = 0
    for edge, count in found.histogram:
        reached += count
        # Edges are rounded to a millionth of a millisecond.
        assert np.sum(given_ms <= edge * (1 + 1e-6) + 1e-3) >= reached


def test_no_values_have_no_latency() -> None:
    assert latency(np.array([])) is None


@pytest.mark.parametrize(
    ("planned", "late", "cpu", "says"),
    [
        (1_000, 10, 0.7, ""),
        (1_000, 11, 0.1, "11 of 1,000"),
        (1_000, 0, 0.71, "71.0 % of a core"),
        (0, 0, 0.0, "nothing was sent"),
    ],
)
def test_a_run_counts_or_says_why_not(planned: int, late: int, cpu: float, says: str) -> None:
    reasons = void_reasons(planned, late, cpu)
    assert bool(reasons) == bool(says)
    assert not says or says in reasons[0]


def test_late_is_more_than_the_bound() -> None:
    one, clock = driver([0, 1], [0, 0])
    clock.now_ns = int(LATE_MS * MS)
    one.sent(0)
    clock.now_ns += 1
    one.sent(1)
    merged = merge([one.part(0.0)])
    assert conclude(SPEC, merged, unknown(merged)).late == 1


def test_a_spec_goes_through_json() -> None:
    told = replace(SPEC, keys=("A:b",), work=Work(sleep_ms=3.0), traffic=Traffic(Shape("steps", levels=(1.0, 2.0))))
    assert spec.from_json(json.loads(json.dumps(spec.as_json(told)))) == told


@pytest.mark.parametrize(
    "wrong",
    [
        {"door": "smtp"},
        {"in_flight": 0},
        {"callers": 3},
        {"callers": -1},
        {"warm_up_seconds": 2.0},
        {"door": "stream", "synchronous": True},
        {"drivers": 0},
        {"answer_seconds": 0.0},
        {"traffic": Traffic(Shape("herd", period_seconds=3.0), 2.0)},
        {"records": "there", "shares_clock": False},
    ],
)
def test_a_spec_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(SPEC, **wrong)  # type: ignore[arg-type]
