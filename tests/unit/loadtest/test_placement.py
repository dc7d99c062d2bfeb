"""The placement check: it passes what a policy gives and fails what another one gave, also on the recorded runs."""

import dataclasses
import itertools
from pathlib import Path

import pytest

from loadtest.placement import record, report, traffic
from loadtest.placement.expected import expect, simulate
from loadtest.placement.spread import max_minus_mean, max_over_mean, mean
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import MIN_SEEDS, judge

RECORDED = Path(__file__).parents[3] / "docs" / "placement" / "depths.json"


def recorded() -> dict[str, record.Row]:
    return {row.variant.name: row for row in record.load(RECORDED.read_text())}


def swapped(said: record.Row, seen: record.Row) -> record.Row:
    """The runs of one row under the name, and with the expectations, of another."""
    pairs = zip(said.runs, seen.runs, strict=True)
    runs = tuple(dataclasses.replace(mine, depths=theirs.depths) for mine, theirs in pairs)
    return record.Row(said.variant, runs)


def test_traffic_is_seeded_and_skewed() -> None:
    """The same seed is the same traffic; few tenants have nearly all of it."""
    one, again, other = traffic.make(1, 1_000), traffic.make(1, 1_000), traffic.make(2, 1_000)
    assert one.arrivals == again.arrivals != other.arrivals
    top = sorted(one.quotas, reverse=True)[: int(0.186 * len(one.quotas))]
    assert sum(top) > 0.98
    batches = traffic.make(1, 320, batch=32).arrivals
    assert all(len(set(batches[at : at + 32])) == 1 for at in range(0, 320, 32))


def test_the_figures_of_a_spread() -> None:
    """max - mean, and max / mean."""
    assert (mean([1, 2, 6]), max_minus_mean([1, 2, 6]), max_over_mean([1, 2, 6])) == (3.0, 3.0, 2.0)


def test_a_frontend_that_hears_late_of_the_others_places_worse() -> None:
    """Depths as old as all that is in flight, against depths known at once; for one frontend there is no difference."""
    four = Variant("best_of_two", 16, 100, frontends=4)
    load = traffic.make(3, four.events)
    fresh = expect(four, load, stale_events=0, repeats=5).max_minus_mean
    stale = expect(four, load, stale_events=four.stale_events, repeats=5).max_minus_mean
    assert stale > 2 * fresh
    one = Variant("best_of_two", 16, 100)
    assert simulate(one, load, 0, stale_events=64) == simulate(one, load, 0, stale_events=0)


def test_every_recorded_row_agrees_and_has_its_seeds() -> None:
    """docs/placement/depths.json has every detailed row, and what a reader is told follows from it."""
    rows = recorded()
    detailed = {v.name for v in all_variants() if (v.shards, v.events_a_shard) == (16, 100)}
    assert detailed <= set(rows) <= {variant.name for variant in all_variants()}
    for name, row in rows.items():
        assert len({run.seed for run in row.runs}) >= MIN_SEEDS, name
        assert all(sum(run.depths) == row.variant.events for run in row.runs), name
        assert row.verdict.agrees, name
    assert "**no**" not in report.write({}, list(rows.values()))


@pytest.mark.parametrize(
    ("said", "seen"), list(itertools.permutations(("hash", "random", "best_of_two", "shuffle_two"), 2))
)
def test_a_swapped_policy_fails(said: str, seen: str) -> None:
    """Depths recorded under one policy, presented as another's; in every size that both were recorded in."""
    rows = recorded()
    shapes = [name.partition(" | ")[2] for name in rows if name.startswith(f"{said} |")]
    both = [shape for shape in shapes if f"{seen} | {shape}" in rows]
    assert both
    for shape in both:
        row = swapped(rows[f"{said} | {shape}"], rows[f"{seen} | {shape}"])
        assert not row.verdict.agrees, (shape, row.verdict)


def test_a_run_of_choices_is_told_from_single_choices() -> None:
    """frontend.choice_run 32 presented as 1."""
    rows = recorded()
    said = rows["best_of_two, batch 32 | 16 shards, 100 a shard"]
    seen = rows["best_of_two, run 32, batch 32 | 16 shards, 100 a shard"]
    assert not swapped(said, seen).verdict.agrees


def test_hash_is_compared_exactly() -> None:
    """One event in another shard than the hash names is seen."""
    row = recorded()["hash | 16 shards, 100 a shard"]
    first = row.runs[0]
    deepest = max(first.depths)
    depths = list(first.depths)
    depths[first.depths.index(deepest)] -= 1
    depths[first.depths.index(min(first.depths))] += 1
    runs = (dataclasses.replace(first, depths=tuple(depths)), *row.runs[1:])
    assert not record.Row(row.variant, runs).verdict.agrees


def test_a_comparison_needs_an_expectation_for_every_run() -> None:
    """Not silently the shorter of the two."""
    variant = Variant("random", 4, 10)
    one = expect(variant, traffic.make(0, 40), stale_events=0, repeats=2)
    with pytest.raises(ValueError, match="as many expectations"):
        judge(variant, [[10, 10, 10, 10]] * 2, [one], [one])
