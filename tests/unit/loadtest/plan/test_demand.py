"""CPU an event, replicas, headroom, drains, cost: each against the known fleet or by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan.cost import Prices, cost
from loadtest.plan.demand import demands, fit_line
from loadtest.plan.findings import Findings, conclude, needed
from loadtest.plan.measured import Fleet, Measured
from loadtest.plan.replicas import MAX_UTILISATION
from loadtest.plan.report import runs as report_runs
from loadtest.plan.report import sizes
from services.policy import prices
from tests.unit.loadtest.plan.known_fleet import KnownFleet


def test_each_services_demand_and_idle_cost_come_back(known: KnownFleet, findings: Findings) -> None:
    for name, truth in known.demand.items():
        found = findings.demands[name]
        assert found.cpu_seconds_an_event == pytest.approx(truth, rel=0.05)
        assert found.idle_cores == pytest.approx(known.idle.get(name, 0.0), abs=0.01)
        assert found.interval is not None and found.interval.low < found.cpu_seconds_an_event < found.interval.high
        assert found.held_out is not None and found.held_out.median < 0.05


def test_runs_that_confirm_and_void_ones_are_not_fitted(measured: Measured) -> None:
    wild = replace(measured.runs[0], cpu_seconds={"frontend": 1e6})
    void = replace(wild, result=replace(wild.result, void=("late",)))
    others = replace(measured, runs=(*measured.runs, void, replace(wild, purpose="confirm")))
    assert demands(others) == demands(measured)


def test_the_held_out_error_leaves_out_a_whole_rate() -> None:
    """Five runs at a rate that follows no line: with four of them left in, the fifth would be predicted well."""
    rates, used = [100.0, 200.0, 300.0, *[1_000.0] * 5], [0.1, 0.2, 0.3, *[4.0] * 5]
    kept = fit_line("queue", rates, used).held_out
    whole = fit_line("queue", rates, used, [f"{rate}" for rate in rates]).held_out
    assert kept is not None and whole is not None
    assert whole.median == pytest.approx(0.75) and kept.median < 0.1


def test_a_drain_that_did_not_end_has_no_gap_and_the_page_says_so(measured: Measured, known: KnownFleet) -> None:
    short = replace(measured, runs=measured.runs[:4], drain=replace(known.drain(200.0), seconds=None))
    found = conclude(short)
    assert found.drain is not None and (found.drain.measured_seconds, found.drain.gap) == (None, None)
    assert "not drained within 60.0 s" in sizes.drains(found)
    # Nothing was overloaded again and again: a single run's throughput is no mu.
    assert found.capacity is not None and found.capacity.is_floor and "mu is higher" in sizes.drains(found)


def test_a_void_drain_proves_nothing(open_runs: Measured, known: KnownFleet) -> None:
    found = conclude(replace(open_runs, drain=replace(known.drain(200.0), void=("late",))))
    assert found.drain is not None and found.drain.gap is None
    assert "shows nothing of the fleet: late" in sizes.drains(found)


def test_memory_that_was_not_read_is_no_cost_of_0(open_runs: Measured) -> None:
    unread = replace(open_runs, memory_unread={"queue": 1, "poller": 2})
    found = conclude(unread).cost
    assert found is not None and found.memory_usd is None
    told = report_runs.settings(unread)
    assert "50 MiB without 1 process that could not be read" in told
    assert "unknown: 2 processes could not be read" in told


@settings(deadline=None, max_examples=50)
@given(
    slope=st.floats(1e-6, 1e-2),
    idle=st.floats(0, 0.5),
    rates=st.lists(st.integers(1, 10_000), min_size=3, max_size=20, unique=True),
)
def test_a_line_without_noise_comes_back(slope: float, idle: float, rates: list[int]) -> None:
    found = fit_line("queue", list(map(float, rates)), [idle + slope * rate for rate in rates])
    assert found.cpu_seconds_an_event == pytest.approx(slope, rel=1e-3, abs=1e-9)
    assert found.cores(5_000) == pytest.approx(idle + slope * 5_000, rel=1e-3)


def test_replicas_are_what_the_demand_asks_for(known: KnownFleet, findings: Findings) -> None:
    found = needed(findings, 10_000)
    assert found is not None
    poller = findings.demands["poller"]
    by_hand = 10_000 * poller.cpu_seconds_an_event / (MAX_UTILISATION - poller.idle_cores)
    assert by_hand <= found.replicas["poller"] < by_hand + 1
    # 10,000/s of 20 ms are 200 slots of the hosts' 8, used to 70 %.
    assert found.slots == pytest.approx(200, rel=0.03)
    assert found.replicas["runtime"] == pytest.approx(200 / (known.slots * MAX_UTILISATION), abs=2)
    assert found.replicas["control"] == 1
    assert found.cores == pytest.approx(10_000 * sum(known.demand.values()) / MAX_UTILISATION, rel=0.1)


@settings(deadline=None, max_examples=50)
@given(low=st.floats(1, 1e6), times=st.floats(1, 1_000))
def test_a_higher_rate_never_needs_less(findings: Findings, low: float, times: float) -> None:
    one, other = needed(findings, low), needed(findings, low * times)
    assert one is not None and other is not None
    assert all(other.replicas[name] >= count for name, count in one.replicas.items()) and other.cores >= one.cores


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e10, float("nan")])
def test_a_rate_that_is_none_is_refused(findings: Findings, rate: float) -> None:
    with pytest.raises(ValueError, match="a rate is above 0"):
        needed(findings, rate)


def test_a_lost_replica_costs_its_part_of_what_bound_the_rate(open_runs: Measured) -> None:
    """Two runtime hosts with half the slots each: one carries half of what the slots bore."""
    fleet = Fleet({"frontend": 2, "runtime": 2, "queue": 2, "poller": 1, "control": 1}, shards=4, slots=4)
    found = {one.lost: one for one in conclude(replace(open_runs, fleet=fleet)).headroom}
    assert found["one runtime"].kept == pytest.approx(0.5, rel=0.01)
    assert found["one poller"].per_second == 0
    assert found["one control"].kept == 1
    # Its process is far from full: one of two bears all of it.
    assert found["one frontend"].kept == 1
    assert found["one queue"].waiting == 0.5
    # A shard is lost with its node, or with the node's disk: alone it has no figure.
    assert "one shard" not in found


def test_the_drain_is_predicted_from_the_mean_of_overloaded_runs(known: KnownFleet, findings: Findings) -> None:
    mu = findings.capacity
    assert mu is not None and mu.interval is not None and mu.interval.holds(known.capacity_per_second)
    assert (mu.runs, mu.is_floor) == (5, False)
    assert findings.drain is not None and findings.drain.gap == pytest.approx(0, abs=0.1)
    row = next(one for one in findings.drains if (one.outage_seconds, one.load) == (60.0, 0.5))
    assert row.backlog == pytest.approx(60 * 170)
    assert row.seconds == pytest.approx(60 * 170 / (mu.per_second - 170))


def test_what_arrives_faster_than_it_goes_never_drains(open_runs: Measured, known: KnownFleet) -> None:
    busy = replace(known.drain(100.0), arriving_per_second=1_000.0)
    found = conclude(replace(open_runs, drain=busy)).drain
    assert found is not None and found.predicted_seconds is None and found.gap is None


def test_a_million_events_cost_their_cpu_and_awss_price_is_awss(findings: Findings, measured: Measured) -> None:
    found = cost(measured, findings.best, findings.demands, None, Prices(core_hour_usd=3.6, gib_hour_usd=0.0))
    assert found is not None
    busy_core_seconds = 1e6 * sum(one.cores(340) for one in findings.demands.values()) / 340
    assert found.cpu_usd == pytest.approx(busy_core_seconds / MAX_UTILISATION * 0.001)
    assert found.aws_billed_ms == 20 and found.aws_requests_usd == pytest.approx(0.20)
    assert found.aws_compute_usd == pytest.approx(1e6 * 0.02 * 128 / 1_024 * float(prices.USD_PER_GB_SECOND))
    with pytest.raises(ValueError, match="at least 0"):
        Prices(core_hour_usd=-1.0)
