"""CPU an event, replicas, headroom, drains, cost: each against the known fleet or by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.plan.cost import Prices
from loadtest.plan.demand import demands, fit_line
from loadtest.plan.findings import Findings, conclude, needed
from loadtest.plan.measured import Fleet, Measured
from loadtest.plan.replicas import MAX_UTILISATION
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
    assert (found["one queue"].waiting, found["one shard"].waiting) == (0.5, 0.25)


def test_the_drain_is_predicted_from_the_highest_throughput(known: KnownFleet, findings: Findings) -> None:
    assert findings.capacity_per_second == pytest.approx(known.capacity_per_second, rel=0.03)
    assert findings.drain is not None and findings.drain.gap == pytest.approx(0, abs=0.1)
    row = next(one for one in findings.drains if (one.outage_seconds, one.load) == (60.0, 0.5))
    assert row.backlog == pytest.approx(60 * 170)
    assert row.seconds == pytest.approx(60 * 170 / (findings.capacity_per_second - 170))


def test_what_arrives_faster_than_it_goes_never_drains(open_runs: Measured, known: KnownFleet) -> None:
    busy = replace(known.drain(100.0), arriving_per_second=1_000.0)
    found = conclude(replace(open_runs, drain=busy)).drain
    assert found is not None and found.predicted_seconds is None and found.gap is None


def test_a_million_events_cost_their_cpu_and_awss_price_is_awss(findings: Findings, measured: Measured) -> None:
    found = conclude(measured, prices=Prices(core_hour_usd=3.6, gib_hour_usd=0.0)).cost
    assert found is not None
    busy_core_seconds = 1e6 * sum(one.cores(340) for one in findings.demands.values()) / 340
    assert found.cpu_usd == pytest.approx(busy_core_seconds / MAX_UTILISATION * 0.001)
    assert found.aws_billed_ms == 20 and found.aws_requests_usd == pytest.approx(0.20)
    assert found.aws_compute_usd == pytest.approx(1e6 * 0.02 * 128 / 1_024 * float(prices.USD_PER_GB_SECOND))
    with pytest.raises(ValueError, match="at least 0"):
        Prices(core_hour_usd=-1.0)
