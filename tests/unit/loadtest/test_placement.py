"""The placement check: it passes what a policy gives and fails what another one gave, also on the recorded runs."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from loadtest.placement import record, report
from loadtest.placement.simulated import other_draws, same_draws
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import ALLOWED_DIFFERENCE, MIN_SEEDS, judge
from loadtest.simulate import traffic
from loadtest.simulate.choices import POLICIES
from loadtest.simulate.spread import max_minus_mean, max_over_mean, mean

RECORDED = Path(__file__).parents[3] / "docs" / "placement" / "depths.json"
SIZE = "16 shards, 100 a shard"


def recorded() -> dict[str, record.Row]:
    return {row.variant.name: row for row in record.load(RECORDED.read_text())}


def swapped(said: record.Row, seen: record.Row) -> record.Row:
    """The runs of one row under the name, and with the simulation, of another."""
    pairs = zip(said.runs, seen.runs, strict=True)
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
    alone, together = max_minus_mean(same_draws(one, load)), max_minus_mean(same_draws(four, load))
    assert together >= 2 * alone


def test_other_draws_are_other_runs_of_the_same_policy() -> None:
    """Not the fleet's numbers, and none where nothing is drawn."""
    one = Variant("random", 16, 100)
    load = traffic.make(3, one.events)
    assert len(set(other_draws(one, load, repeats=8))) > 1
    hashed = Variant("hash", 16, 100)
    assert other_draws(hashed, load) == [max_minus_mean(same_draws(hashed, load))]


def test_every_recorded_row_agrees_and_has_its_seeds() -> None:
    """docs/placement has every row of 16 shards, within 10 %, and what a reader is told follows from it."""
    rows = recorded()
    detailed = {v.name for v in all_variants() if (v.shards, v.events_a_shard) == (16, 100)}
    assert detailed <= set(rows) <= {variant.name for variant in all_variants()}
    for name, row in rows.items():
        assert len({run.seed for run in row.runs}) >= row.variant.seeds(MIN_SEEDS), name
        assert all(sum(run.depths) == row.variant.events for run in row.runs), name
        assert abs(row.verdict.measured / row.verdict.simulated - 1) <= 0.10, name
        assert row.verdict.agrees, name
    assert "**no**" not in report.write({}, list(rows.values()))


def test_what_was_simulated_is_what_the_simulator_says_today() -> None:
    """A policy that changes since makes the recorded comparison void."""
    for row in recorded().values():
        if row.variant.events <= 1_600:
            for run in row.runs[:3]:
                load = traffic.make(run.seed, row.variant.events, batch=row.variant.batch)
                assert tuple(same_draws(row.variant, load)) == run.simulated, row.variant.name


@pytest.mark.parametrize(("said", "seen"), list(itertools.permutations(POLICIES, 2)))
def test_a_swapped_policy_fails(said: str, seen: str) -> None:
    """Depths recorded under one policy, presented as another's: every pair."""
    rows = recorded()
    row = swapped(rows[f"{said} | {SIZE}"], rows[f"{seen} | {SIZE}"])
    assert not row.verdict.agrees, row.verdict
    assert report.swapped_difference(rows[f"{said} | {SIZE}"], rows[f"{seen} | {SIZE}"]) == row.verdict.difference


def test_a_run_of_choices_is_told_from_single_choices() -> None:
    """frontend.choice_run 32 and 4 presented as 1."""
    rows = recorded()
    said = rows[f"best_of_two, batch 32 | {SIZE}"]
    for run in (4, 32):
        assert not swapped(said, rows[f"best_of_two, run {run}, batch 32 | {SIZE}"]).verdict.agrees


def test_the_allowed_difference_is_relative_and_both_ways() -> None:
    """10 % of the simulated max - mean, not of the depths."""
    simulated = [[100, 100, 100, 140]] * 2
    for deepest, agrees in ((142, True), (138, True), (145, False), (135, False)):
        verdict = judge([[100, 100, 240 - deepest, deepest]] * 2, simulated)
        assert verdict.agrees is agrees, verdict
        assert verdict.same == 0
    assert judge(simulated, simulated).same == 2
    assert ALLOWED_DIFFERENCE == 0.10


def test_no_difference_at_all_is_not_divided_by() -> None:
    """Where the simulator says that all are alike, one event more disagrees."""
    assert judge([[5, 5]], [[5, 5]]).agrees
    assert not judge([[4, 6]], [[5, 5]]).agrees


def test_a_comparison_needs_a_simulation_for_every_run() -> None:
    """Not silently the shorter of the two."""
    with pytest.raises(ValueError, match="one simulated run"):
        judge([[10, 10]] * 2, [[10, 10]])
    with pytest.raises(ValueError, match="at least one"):
        judge([], [])
