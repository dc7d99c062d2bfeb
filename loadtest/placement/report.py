"""The report for people, written from the recorded rows alone."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.placement.record import Row
from loadtest.placement.variants import IN_FLIGHT_A_SHARD, IN_FLIGHT_A_SHARD_OF_SEVERAL
from loadtest.placement.verdict import ALLOWED_DIFFERENCE, MIN_SEEDS
from loadtest.simulate.spread import max_over_mean

_HEAD = """# Where events land
Written by `make placement ARGS=--save`; the runs behind it are in `depths.json`, one a line, with every shard's depth.

{about}

Each run sends lognormally skewed traffic (10,000 tenants, sigma 3.55) through the frontend's own accept path into a
real queue process with empty SQLite shards, {seeds} seeds a row at least. Depths are what the queue node itself
reports (`DescribeShards`) after the last event was durable; then everything is leased and acknowledged, and what came
out of each shard has to be what it said. Draws are seeded. One frontend has {in_flight} events a shard in flight,
each of several {of_several}.

Simulated: the same traffic through the simulator (`evenflow simulate`, loadtest/simulate), which runs the same code of
`services/policy/shard_choice.py` and draws the same numbers in the same order. A row agrees when the mean over the
seeds of max - mean differs by at most {allowed:.0%}. Other draws: the simulator with numbers that the fleet does not
have, 20 times each seed, and the standard error that so many real runs with such numbers would have.
`make placement` fails when a row does not agree, and `tests/unit/loadtest/test_placement.py` shows that depths
recorded under another policy do not.
"""
_READING = """## How to read it
- hash puts all of a tenant's events into one shard: max / mean is about the hottest tenant's part times the shards.
- shuffle two is `shuffle_shard` without quotas (every tenant has two shards); shuffle quota has each tenant's quota.
- One frontend counts its own sends, so the same draws give the same shards, event by event, but for a report that
  overtakes an answer, which counts a few sends twice for a moment.
- Batch, run: so many events of a tenant arrive at once, and so many of them share a choice (`frontend.choice_run`):
  depths are uneven by a run or two, as ADR 7 says.
- Several frontends know their own sends at once and each other's late. The simulator takes that to be all that is in
  flight; batches that are cut otherwise make it more or less, so these runs are alike in distribution only, and have
  more seeds.
"""
_COLUMNS = (
    "| row | seeds | max / mean | max - mean | simulated | difference | same depths | other draws | agrees |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def write(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The text of docs/placement/README.md."""
    seeds = min(len(row.runs) for row in rows)
    told = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    head = _HEAD.format(
        about=told,
        seeds=seeds,
        in_flight=IN_FLIGHT_A_SHARD,
        of_several=IN_FLIGHT_A_SHARD_OF_SEVERAL,
        allowed=ALLOWED_DIFFERENCE,
    )
    parts = [head]
    if seeds < MIN_SEEDS:
        parts.append(f"**A short run: {seeds} seeds, of the {MIN_SEEDS} that a comparison needs.**\n")
    groups: dict[tuple[int, int, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant.shards, row.variant.events_a_shard, _is_plain(row)), []).append(row)
    for (shards, size, plain), chosen in groups.items():
        title = "each event chosen by itself" if plain else "runs of events, several frontends"
        parts.append(f"## {shards} shards, {size:,} events a shard: {title}")
        parts.append("max / mean: median (lowest to highest) over the seeds; max - mean: events, mean over them.\n")
        parts.append("\n".join([_COLUMNS, *map(_line, chosen)]) + "\n")
    plain_rows = [row for row in rows if _is_plain(row)]
    parts.append(_swaps(plain_rows))
    parts.append(_READING)
    return "\n".join(parts)


def swapped_difference(said: Row, seen: Row) -> float:
    """The difference that the check finds when the fleet runs `seen` and the simulator expects `said`."""
    return seen.verdict.measured / said.verdict.simulated - 1


def only_by_same_draws(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Pairs (expected, run) that the check tells apart because fleet and simulator draw the same numbers.

    With other numbers the fleet's mean lies within two standard errors of what still passes.
    """
    found = []
    for said, seen in itertools.permutations(rows, 2):
        expected, (middle, error) = said.independent[0], seen.independent
        if abs(middle - expected) - 2 * error <= ALLOWED_DIFFERENCE * expected:
            found.append((said, seen))
    return found


def _swaps(rows: Sequence[Row]) -> str:
    lines = [
        "## A swapped policy",
        f"Difference of max - mean when the fleet ran one policy and the simulator was told another; "
        f"over {ALLOWED_DIFFERENCE:.0%} fails.\n",
    ]
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant.shards, row.variant.events_a_shard), []).append(row)
    for (shards, size), chosen in groups.items():
        names = [row.variant.policy.replace("_", " ") for row in chosen]
        lines.append(f"{shards} shards, {size:,} events a shard:\n")
        lines.append(f"| fleet runs, simulator expects | {' | '.join(names)} |")
        lines.append("|---" * (len(names) + 1) + "|")
        for name, seen in zip(names, chosen, strict=True):
            cells = [_swap_cell(swapped_difference(said, seen)) for said in chosen]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
        close = [
            f"{seen.variant.policy.replace('_', ' ')} for {said.variant.policy.replace('_', ' ')}"
            for said, seen in only_by_same_draws(chosen)
        ]
        lines.append(f"Only because both draw the same numbers: {', '.join(close) or 'none'}.\n")
    return "\n".join(lines)


def _swap_cell(difference: float) -> str:
    text = f"{difference:+.0%}" if difference < 10 else f"x {difference + 1:,.0f}"
    return text if abs(difference) > ALLOWED_DIFFERENCE else f"{difference:+.1%} passes"


def _is_plain(row: Row) -> bool:
    return row.variant.choice_run == row.variant.frontends == row.variant.batch == 1


def _line(row: Row) -> str:
    verdict = row.verdict
    ratios = [max_over_mean(run.depths) for run in row.runs]
    middle, error = row.independent
    cells = [
        row.variant.name.split(" |")[0].replace("_", " "),
        str(len(row.runs)),
        f"{statistics.median(ratios):,.2f} ({min(ratios):,.2f} to {max(ratios):,.2f})",
        f"{verdict.measured:,.2f}",
        f"{verdict.simulated:,.2f}",
        f"{verdict.difference:+.1%}",
        f"{verdict.same} of {len(row.runs)}",
        f"{middle:,.2f} ± {error:,.2f}",
        "yes" if verdict.agrees else "**no**",
    ]
    return "| " + " | ".join(cells) + " |"
