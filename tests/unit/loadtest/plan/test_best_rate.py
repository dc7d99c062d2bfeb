"""The best rate, its intervals, what fails above it and the knee, recovered from a known M/M/c fleet."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy.optimize import brentq

from loadtest.plan.best_rate import best_rate, first_failure, knee
from loadtest.plan.curve import crossing
from loadtest.plan.findings import Findings, conclude
from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import completed_per_second
from tests.unit.loadtest.plan.known_fleet import KnownFleet


def wait_p99_seconds(rate: float, slots: int, handler_seconds: float) -> float:
    """Of M/M/c: P(wait > t) = C(c, a) exp(-(c mu - lambda) t), C by Erlang."""
    load = rate * handler_seconds
    terms = [load**k / math.factorial(k) for k in range(slots)]
    last = load**slots / math.factorial(slots) / (1 - load / slots)
    must_wait = last / (sum(terms) + last)
    return max(0.0, math.log(must_wait / 0.01)) / (slots / handler_seconds - rate)


def test_the_repeated_rate_is_the_best_one_with_an_interval_that_holds_the_offered_rate(findings: Findings) -> None:
    best = findings.best
    assert (best.per_second, best.repeats, best.held, best.void) == (340.0, 5, 5, 0)
    assert best.completed_interval is not None and best.completed_interval.holds(340.0)
    assert best.completed_interval.high - best.completed_interval.low < 0.06 * 340


def test_the_limit_is_where_theory_puts_the_p99_at_its_bound(known: KnownFleet, findings: Findings) -> None:
    bound_seconds = (known.objective.start_p99_ms - 2.3) / 1_000
    theory = brentq(  # type: ignore[no-untyped-call]
        lambda rate: wait_p99_seconds(rate, known.slots, known.handler_seconds) - bound_seconds,
        100,
        0.999 * known.capacity_per_second,
    )
    assert findings.best.limit_per_second == pytest.approx(theory, rel=0.03)
    limit, interval = findings.best.limit_per_second, findings.best.limit_interval
    assert limit is not None and interval is not None and interval.holds(limit)


def test_what_fails_first_is_the_start_at_the_next_rate(findings: Findings) -> None:
    failure = findings.first_failure
    assert failure is not None and failure.bound == "start" and failure.use > 1
    assert findings.best.per_second < failure.per_second <= 380


def test_a_void_run_neither_holds_nor_fails(measured: Measured) -> None:
    def voided(run: Run) -> Run:
        is_void = run.purpose == "repeat" or run.per_second == 370
        return replace(run, result=replace(run.result, void=("late",))) if is_void else run

    left = replace(measured, runs=tuple(map(voided, measured.runs)))
    best = best_rate(left)
    # Its search run is all that is left at the rate, and a higher one held as well.
    assert (best.per_second, best.repeats, best.completed_interval) == (360.0, 1, None)
    failure = first_failure(left, best)
    assert failure is not None and failure.per_second > 370


def test_a_rate_that_most_repeats_fail_is_not_the_best_one(measured: Measured) -> None:
    repeats = [run for run in measured.runs if run.purpose == "repeat"]
    failing = [replace(run, failed=("start p99",)) for run in repeats[:3]]
    others = [run for run in measured.runs if run.purpose != "repeat" and run.per_second <= 340]
    best = best_rate(replace(measured, runs=tuple(others + failing + repeats[3:])))
    assert best.per_second == 300.0


def test_runs_around_the_best_rate_never_take_its_place(measured: Measured, known: KnownFleet) -> None:
    """Two that held one step above it: too few for a headline, whatever they are called."""
    others = [run for run in measured.runs if run.per_second <= 340]
    lucky = [replace(known.run("around", 350.0, n), failed=()) for n in (1, 2)]
    best = best_rate(replace(measured, runs=(*others, *lucky)))
    assert (best.per_second, best.repeats, best.why_no_interval) == (340.0, 5, "")
    searched = [run for run in others if run.purpose == "search"]
    assert best_rate(replace(measured, runs=(*searched, *lucky))).per_second == 340.0


def test_a_best_rate_without_an_interval_says_why(measured: Measured) -> None:
    repeats = [run for run in measured.runs if run.purpose == "repeat"][:2]
    best = best_rate(replace(measured, runs=tuple(repeats)))
    assert best.completed_interval is None
    assert best.why_no_interval == "2 valid runs at this rate, an interval needs 5"


def test_rates_that_differ_in_the_last_digit_are_one(measured: Measured) -> None:
    repeats = [run for run in measured.runs if run.purpose == "repeat"]
    shaken = [replace(run, per_second=run.per_second * (1 + 1e-9 * place)) for place, run in enumerate(repeats)]
    assert best_rate(replace(measured, runs=tuple(shaken))).repeats == 5


def test_throughput_is_what_ended_in_the_window_not_what_was_accepted_of_it(known: KnownFleet) -> None:
    """800/s are offered to a fleet that ends 400/s: late answers and later ends are in no figure of the window."""
    run = known.run("search", 2 * known.capacity_per_second, 1)
    assert run.result.accepted / run.result.seconds == pytest.approx(800, rel=0.03)
    assert completed_per_second(run) == pytest.approx(400, rel=0.03)
    # By the records, too, where the fleet's counters were not seen: of the counted events alone.
    assert completed_per_second(replace(run, ended=None)) < 400


def test_runs_of_another_fleet_are_in_no_finding_of_this_one(open_runs: Measured) -> None:
    """Confirmed on two hosts: a higher rate holds, one fails, one is void; only the confirmations tell of them."""
    other = KnownFleet(slots=16)
    runs = [replace(other.run("confirm", rate, 9), replicas={"runtime": 2}) for rate in (345.0, 600.0, 900.0)]
    runs.append(replace(runs[0], result=replace(runs[0].result, void=("late",))))
    runs.append(replace(other.closed(4, 1), purpose="confirm", replicas={"runtime": 2}))
    both = conclude(replace(open_runs, runs=(*open_runs.runs, *runs)))
    assert len(both.confirmations) == 4
    assert replace(both, confirmations=()) == conclude(open_runs)


def test_without_any_run_nothing_is_claimed(measured: Measured) -> None:
    nothing = replace(measured, runs=())
    best = best_rate(nothing)
    assert (best.per_second, best.limit_per_second, best.completed_interval) == (0.0, None, None)
    assert first_failure(nothing, best) is None and knee(nothing) is None


def test_the_knee_of_a_single_server_is_half_its_load() -> None:
    """M/M/1: every percentile is twice its floor at half load. One slot of 100 ms, beside which accepts do not count;
    the floor is seen at 0.5/s, so half of what is left is 5.25/s."""
    fleet = KnownFleet(slots=1, handler_seconds=0.1, seconds=6_000.0)
    plan = fleet.measured((0.5, 4.0, 5.0, 6.0), repeats_at=4.0, repeats=0, callers=())
    runs = tuple(_response_as_start(run) for run in plan.runs)
    found = knee(replace(plan, runs=runs))
    assert found is not None and found.per_second == pytest.approx(5.25, rel=0.08)


def _response_as_start(run: Run) -> Run:
    return replace(run, result=replace(run.result, start=run.result.settled))


@pytest.mark.parametrize(
    ("values", "level", "expected"),
    [
        ((1.0, 2.0, 3.0), 2.5, 250.0),
        ((1.0, 3.0, 2.0, 5.0), 2.5, 350.0 - 50.0),
        ((5.0, 6.0), 1.0, 100.0),
        ((1.0, 1.0), 2.0, None),
    ],
)
def test_a_level_is_crossed_on_the_never_falling_curve(
    values: Sequence[float], level: float, expected: float | None
) -> None:
    rates = [100.0 * (place + 1) for place in range(len(values))]
    assert crossing(rates, values, level) == pytest.approx(expected)
