"""The placement check: it passes what a policy gives and fails what another one gave, also on the recorded runs."""

import dataclasses
import itertools
import json
import statistics
from pathlib import Path

import pytest

from loadtest.placement import record, report
from loadtest.placement.run import Knowledge
from loadtest.placement.simulated import REPEATS, other_draws, same_draws, stale_events
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import ALLOWED_DIFFERENCE, MIN_SEEDS, judge
from loadtest.simulate import traffic
from loadtest.simulate.choices import POLICIES
from loadtest.simulate.spread import max_minus_mean, max_over_mean, mean

RECORDED = Path(__file__).parents[3] / "docs" / "placement" / "depths.json"
SIZE = "16 shards, 100 a shard"


@pytest.fixture(scope="module", name="rows")
def recorded() -> dict[str, record.Row]:
    return {row.variant.name: row for row in record.load(RECORDED.read_text())}


def swapped(said: record.Row, seen: record.Row) -> record.Row:
    """The runs of one row under the name, and with the simulation, of another; as many as both have."""
    pairs = zip(said.runs, seen.runs, strict=False)
    runs = tuple(dataclasses.replace(mine, depths=theirs.depths) for mine, theirs in pairs)
    return record.Row(said.variant, runs)


def test_traffic_is_seeded_and_skewed() -> None:
    """The same seed is the same traffic; few tenants have nearly all of it."""
    one, again, other = traffic.make(1, 1_000), traffic.make(1, 1_000), traffic.make(2, 1_000)
    assert one.arrivals == again.arrivals != other.arrivals
    top = sorted(one.parts, reverse=True)[: int(0.186 * len(one.parts))]
    assert sum(top) > 0.98
    batches = traffic.make(1, 320, batch=32).arrivals
    assert all(len(set(batches[at : at + 32])) == 1 for at in range(0, 320, 32))


def test_the_figures_of_a_spread() -> None:
    """max - mean, and max / mean."""
    assert (mean([1, 2, 6]), max_minus_mean([1, 2, 6]), max_over_mean([1, 2, 6])) == (3.0, 3.0, 2.0)


def test_frontends_that_hear_late_of_each_other_place_worse() -> None:
    """Four of them against one."""
    one, four = Variant("best_of_two", 16, 100), Variant("best_of_two", 16, 100, frontends=4)
    load = traffic.make(3, one.events)
    alone, together = max_minus_mean(same_draws(one, load)), max_minus_mean(same_draws(four, load, 64))
    assert together >= 2 * alone


def test_other_draws_are_other_runs_of_the_same_policy() -> None:
    """Not the fleet's numbers, and none where nothing is drawn."""
    one = Variant("random", 16, 100)
    load = traffic.make(3, one.events)
    assert len(set(other_draws(one, load, repeats=8))) > 1
    assert max_minus_mean(same_draws(one, load)) not in other_draws(one, load, repeats=1)
    hashed = Variant("hash", 16, 100)
    assert other_draws(hashed, load) == [max_minus_mean(same_draws(hashed, load))]


def test_every_recorded_row_agrees_and_has_its_seeds(rows: dict[str, record.Row]) -> None:
    """docs/placement has every row of 16 shards, within 10 % by both draws, and what a reader is told follows from it.

    Of one frontend, each event by itself: that is the check. Of the others, those that have seeds enough to tell.
    """
    detailed = {v.name for v in all_variants() if (v.shards, v.events_a_shard, v.is_plain) == (16, 100, True)}
    assert detailed <= set(rows) <= {variant.name for variant in all_variants()}
    for name, row in rows.items():
        verdict = row.verdict
        assert all(sum(run.depths) == row.variant.events for run in row.runs), name
        if row.variant.is_plain or verdict.is_enough:
            assert len({run.seed for run in row.runs}) >= MIN_SEEDS and verdict.error <= 0.05, name
            assert abs(verdict.measured / verdict.simulated - 1) <= 0.10, name
            assert abs(verdict.measured / verdict.independent - 1) <= 0.10, name
            assert verdict.agrees, (name, verdict.text)
    about = json.loads(RECORDED.read_text())
    about.pop("rows")
    assert report.write(about, list(rows.values())) == (RECORDED.parent / "README.md").read_text()


def test_the_simulators_own_mean_is_known_to_1_percent(rows: dict[str, record.Row]) -> None:
    """Of the rows that are the check: so many runs with other draws that their chance is none of the fleet's."""
    for name, row in rows.items():
        if row.variant.is_plain:
            variance = statistics.fmean(run.independent.variance for run in row.runs)
            error = (variance / (REPEATS * len(row.runs))) ** 0.5
            assert error < 0.01 * row.verdict.independent, name


def test_what_was_simulated_is_what_the_simulator_says_today(rows: dict[str, record.Row]) -> None:
    """A policy that changes since makes the recorded comparison void."""
    for row in rows.values():
        if row.variant.events <= 1_600:
            for run in row.runs[:2]:
                load = traffic.make(run.seed, row.variant.events, batch=row.variant.batch)
                stale = stale_events(row.variant, run.unknown_events or 0.0)
                assert tuple(same_draws(row.variant, load, stale)) == run.simulated, row.variant.name


def test_a_swapped_policy_fails(rows: dict[str, record.Row]) -> None:
    """Depths recorded under one policy, presented as another's: every pair, not for want of seeds."""
    for said, seen in itertools.permutations(POLICIES, 2):
        row = swapped(rows[f"{said} | {SIZE}"], rows[f"{seen} | {SIZE}"])
        assert not row.verdict.agrees and len(row.runs) >= MIN_SEEDS, (said, seen, row.verdict)
        difference = report.swapped_difference(rows[f"{said} | {SIZE}"], rows[f"{seen} | {SIZE}"])
        assert abs(difference) > ALLOWED_DIFFERENCE, (said, seen)


def test_a_swapped_policy_fails_with_runs_and_with_several_frontends(rows: dict[str, record.Row]) -> None:
    """Where a row has no real runs of other policies: what the simulator says of each, else as the runs were."""
    several = [row for row in rows.values() if not row.variant.is_plain]
    assert any(row.variant.frontends > 1 for row in several)
    for row in several:
        assert set(row.runs[0].swapped) == set(POLICIES) - {row.variant.policy}
        if row.verdict.is_enough and row.variant.choice_run == 1:
            for policy in row.runs[0].swapped:
                assert abs(row.swapped(policy)) > ALLOWED_DIFFERENCE, (row.variant.name, policy)


def test_old_depths_of_several_frontends_are_measured(rows: dict[str, record.Row]) -> None:
    """How many events a frontend did not know of comes from the runs, and the simulator's age from that."""
    four = Variant("best_of_two", 16, 100, frontends=4)
    assert (stale_events(four, 48.0), stale_events(Variant("best_of_two", 16, 100), 48.0)) == (64, 0)
    for row in rows.values():
        if row.variant.frontends > 1:
            assert all(run.unknown_events for run in row.runs), row.variant.name


def test_knowledge_is_what_is_sent_less_what_is_estimated() -> None:
    """Two frontends of which neither hears of the other: each lacks the other's sends."""
    known, knowledge = ([0, 0], [0, 0]), Knowledge()
    for number in range(8):
        knowledge.choosing(known[number % 2])
        known[number % 2][0] += 1
    # 0, 1, 1, 2, 2, 3, 3, 4.
    assert knowledge.unknown_events == 2.0


def test_a_run_of_choices_is_told_from_single_choices(rows: dict[str, record.Row]) -> None:
    """frontend.choice_run 32 and 4 presented as 1."""
    said = rows[f"best_of_two, batch 32 | {SIZE}"]
    for run in (4, 32):
        assert not swapped(said, rows[f"best_of_two, run {run}, batch 32 | {SIZE}"]).verdict.agrees


def test_the_allowed_difference_is_relative_and_both_ways() -> None:
    """10 % of the simulated max - mean, not of the depths; by the same draws and by others."""
    simulated = [[100, 100, 100, 140]] * MIN_SEEDS
    same = [max_minus_mean(one) for one in simulated]
    for deepest, agrees in ((142, True), (138, True), (145, False), (135, False)):
        seen = [[100, 100, 240 - deepest, deepest]] * MIN_SEEDS
        verdict = judge(seen, simulated, same)
        assert verdict.agrees is agrees, verdict
        assert verdict.same == 0
        # The simulator with the fleet's draws says the same, the simulator with others does not.
        assert judge(seen, seen, same).agrees is agrees
    assert judge(simulated, simulated, same).same == MIN_SEEDS
    assert ALLOWED_DIFFERENCE == 0.10


def test_too_few_seeds_agree_with_nothing() -> None:
    """Fewer than MIN_SEEDS, or as many that are too far apart to tell a tenth."""
    one, middle = [[100, 100, 100, 140]], max_minus_mean([100, 100, 100, 140])
    assert judge(one * MIN_SEEDS, one * MIN_SEEDS, [middle] * MIN_SEEDS).agrees
    few = judge(one * (MIN_SEEDS - 1), one * (MIN_SEEDS - 1), [middle] * (MIN_SEEDS - 1))
    assert not few.agrees and not few.is_enough and "TOO FEW SEEDS" in few.text
    apart = [[100, 100, 100, 140], [40, 100, 100, 200]] * (MIN_SEEDS // 2)
    unsure = judge(apart, apart, [statistics.fmean(map(max_minus_mean, apart))] * MIN_SEEDS)
    assert unsure.independent_difference == unsure.difference == 0.0 and not unsure.agrees


def test_no_difference_at_all_is_not_divided_by() -> None:
    """Where the simulator says that all are alike, one event more disagrees."""
    alike = [[5, 5]] * MIN_SEEDS
    assert judge(alike, alike, [0.0] * MIN_SEEDS).agrees
    assert not judge([[4, 6]] * MIN_SEEDS, alike, [0.0] * MIN_SEEDS).agrees


def test_a_comparison_needs_a_simulation_for_every_run() -> None:
    """Not silently the shorter of the two."""
    with pytest.raises(ValueError, match="one simulated run"):
        judge([[10, 10]] * 2, [[10, 10]], [0.0] * 2)
    with pytest.raises(ValueError, match="one simulated run"):
        judge([[10, 10]] * 2, [[10, 10]] * 2, [0.0])
    with pytest.raises(ValueError, match="at least one"):
        judge([], [], [])
