"""What saturates first, Little's law, the generator and confirmations."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from loadtest.plan.findings import Findings, conclude
from loadtest.plan.measured import Measured, Sample
from tests.unit.loadtest.plan.conftest import BEST, RATES
from tests.unit.loadtest.plan.known_fleet import KnownFleet


def test_slots_are_found_and_where_each_resource_would_saturate(known: KnownFleet, findings: Findings) -> None:
    found = findings.bottleneck
    assert found.service == "runtime" and "sandbox slots" in found.evidence
    by_name = {one.name: one for one in found.resources}
    assert next(iter(by_name)) == "sandbox slots"
    assert by_name["sandbox slots"].saturates_per_second == pytest.approx(known.capacity_per_second, rel=0.03)
    poller = (1 - known.idle["poller"]) / known.demand["poller"]
    assert by_name["poller: busiest process"].saturates_per_second == pytest.approx(poller, rel=0.03)
    whole = sum(known.demand.values()) + known.generator_cpu_an_event
    machine = (2 - sum(known.idle.values())) / whole
    assert by_name["machine CPU, with the generator"].saturates_per_second == pytest.approx(machine, rel=0.1)


def test_a_process_at_its_core_is_found() -> None:
    demand: Mapping[str, float] = {"frontend": 0.0026, "queue": 0.0002, "poller": 0.0001}
    found = conclude(
        KnownFleet(demand=demand, seconds=6.0, warm_up_seconds=1.0).measured(RATES, BEST, callers=())
    ).bottleneck
    assert found.service == "frontend"
    assert found.evidence.startswith("the busiest frontend process used 9")


def test_when_nothing_was_busy_no_service_is_blamed(open_runs: Measured) -> None:
    idle = tuple(
        replace(run, samples=tuple(replace(one, in_flight=1) for one in run.samples), busiest_core={"queue": 0.1})
        for run in open_runs.runs
    )
    found = conclude(replace(open_runs, runs=idle)).bottleneck
    assert found.service == "" and "waits for something else" in found.evidence


def test_an_overload_shows_where_events_wait(open_runs: Measured) -> None:
    overloaded = replace(
        open_runs, runs=tuple(run for run in open_runs.runs if run.per_second not in (360, 370, 380, 390))
    )
    growth = conclude(overloaded).bottleneck.growth
    assert growth is not None and growth.per_second == 410
    assert growth.depth_slope_per_second == pytest.approx(10, abs=8) and growth.waiting > growth.in_flight


def test_littles_law_holds_on_every_steady_run(findings: Findings) -> None:
    assert len(findings.little) == 2 * (len(RATES) + 10)
    assert not any(one.flagged for one in findings.little)
    assert not next(one for one in findings.little if one.per_second == 500).steady


def test_counts_that_latencies_deny_are_flagged(open_runs: Measured) -> None:
    def doubled(sample: Sample) -> Sample:
        return replace(sample, depths=tuple(2 * one for one in sample.depths))

    runs = tuple(replace(run, samples=tuple(map(doubled, run.samples))) for run in open_runs.runs)
    flagged = [one for one in conclude(replace(open_runs, runs=runs)).little if one.flagged]
    assert {one.of for one in flagged} == {"events"} and len(flagged) > 5


def test_the_generator_is_valid_and_void_repeats_make_it_invalid(open_runs: Measured, findings: Findings) -> None:
    assert findings.generator.valid and not findings.generator.void
    spoiled = tuple(
        replace(run, result=replace(run.result, void=("the generator used 90 % of a core",)))
        if run.purpose == "repeat" and place % 2
        else run
        for place, run in enumerate(open_runs.runs)
    )
    found = conclude(replace(open_runs, runs=spoiled)).generator
    assert not found.valid and found.void[0].reasons == ("the generator used 90 % of a core",)


def test_a_confirmation_compares_cores_and_verdict(known: KnownFleet, open_runs: Measured) -> None:
    within, beyond = known.run("confirm", 220.0, 3), known.run("confirm", 420.0, 3)
    found = conclude(replace(open_runs, runs=(*open_runs.runs, within, beyond))).confirmations
    assert [(one.per_second, one.enough, one.held, one.right) for one in found] == [
        (220.0, True, True, True),
        (420.0, False, False, True),
    ]
    assert all(abs(one.gap) < 0.1 for one in found)
    failed = replace(within, failed=("start p99",))
    wrong = conclude(replace(open_runs, runs=(*open_runs.runs, failed))).confirmations
    assert [(one.enough, one.held, one.right) for one in wrong] == [(True, False, False)]
