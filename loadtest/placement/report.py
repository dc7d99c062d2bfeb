"""The report for people, written from the recorded rows alone."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.placement.record import Row
from loadtest.placement.simulated import REPEATS
from loadtest.placement.variants import IN_FLIGHT_A_SHARD
from loadtest.placement.verdict import ALLOWED_DIFFERENCE, MAX_ERROR, MIN_SEEDS
from loadtest.simulate.choices import POLICIES
from loadtest.simulate.spread import max_over_mean

_HEAD = """# Where events land
Written by what `make placement ARGS=--save` calls, row by row;
the runs are in `depths.json`, one a line, with every shard's depth.

{about}

Each run sends lognormally skewed traffic (10,000 tenants, sigma 3.55) through the frontend's own accept path into a
real queue process with empty SQLite shards, {seeds} seeds a row at least. Depths are what the queue node itself
reports (`DescribeShards`) after the last event was durable; then everything is leased and acknowledged, and what came
out of each shard has to be what it said. Draws are seeded. A frontend has {in_flight} event a shard in flight,
or one batch.

Simulated: the same traffic through the simulator (`evenflow simulate`, loadtest/simulate), which runs the same code of
`services/policy/shard_choice.py`. It is compared twice, by the mean over the seeds of max - mean:

- **Same draws**: the simulator draws the numbers that the fleet draws, in the same order. One frontend then has to
  come to the same shards, event by event. This shows that the way in (accept path, streams, queue) does with a choice
  what the simulator takes it to do; it says nothing of chance, and near +0.0% is what it has to be.
- **Other draws**: {repeats} runs a seed with numbers that the fleet does not have. This is the independent comparison.
  ± is the standard error of that difference, over the seeds; policies with much chance have more seeds, so that it is
  {max_error:.0%} at most. hash draws nothing, so its two comparisons are one.

A row agrees when both differ by at most {allowed:.0%}, with {min_seeds} seeds at least and a standard error of
{max_error:.0%} at most. `make placement` fails when a row does not, and `tests/unit/loadtest/test_placement.py` shows
that depths recorded under another policy do not.
"""
_READING = """## How to read it
- hash puts all of a tenant's events into one shard: max / mean is about the hottest tenant's part times the shards.
- shuffle two is `shuffle_shard` without quotas (every tenant has two shards); shuffle quota has each tenant's quota.
- One frontend counts its own sends, so the same draws give the same shards, event by event, but for a report that
  overtakes an answer: the frontend counts those sends twice for a moment, and the simulator does not. It is more with
  more in flight and on a busy machine: with 4 events a shard in flight at a load average of 50, best of two had 8% more
  max - mean than with the same draws in the simulator (1.36 instead of 1.24 events over 80 seeds, 16 of them the same),
  shuffle quota 16% (2.68 instead of 2.30 over 40), best of two in batches of 32 10% (1.36 instead of 1.24 over 80),
  random, which looks at no depth, none.
- Batch, run: so many events of a tenant arrive at once, and so many of them share a choice (`frontend.choice_run`):
  depths are uneven by a run or two, as ADR 7 says.
- Not known: events that a frontend did not know of when it chose, sent so far less what it estimates in all shards,
  mean over the choices. It is measured in each run. One frontend knows all its sends (below 0: those counted twice).
  Of several, each knows its own sends at once and the others' late, and the simulator takes the others' depths to be so
  old that just as many events are not known; nothing is fitted. How that number moves within a run is not simulated.
"""
_COLUMNS = (
    "| row | seeds | max / mean | max - mean | same draws | difference | same depths | other draws | difference "
    "| not known | agrees |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def write(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The text of docs/placement/README.md."""
    seeds = min(len(row.runs) for row in rows)
    told = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    head = _HEAD.format(
        about=told,
        seeds=seeds,
        in_flight=IN_FLIGHT_A_SHARD,
        allowed=ALLOWED_DIFFERENCE,
        repeats=REPEATS,
        max_error=MAX_ERROR,
        min_seeds=MIN_SEEDS,
    )
    parts = [head]
    if seeds < MIN_SEEDS:
        parts.append(f"**A short run: {seeds} seeds, of the {MIN_SEEDS} that a comparison needs.**\n")
    groups: dict[tuple[int, int, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant.shards, row.variant.events_a_shard, row.variant.is_plain), []).append(row)
    for (shards, size, plain), chosen in groups.items():
        title = "each event chosen by itself" if plain else "runs of events, several frontends"
        parts.append(f"## {shards} shards, {size:,} events a shard: {title}")
        parts.append("max / mean: median (lowest to highest) over the seeds; max - mean: events, mean over them.\n")
        parts.append("\n".join([_COLUMNS, *map(_line, chosen)]) + "\n")
    parts.append(_swaps([row for row in rows if row.variant.is_plain]))
    parts.append(_simulated_swaps([row for row in rows if not row.variant.is_plain]))
    parts.append(_READING)
    parts.append("## When")
    parts += [f"- {_short(row)}, {row.variant.shards} shards: {row.measured}" for row in rows]
    return "\n".join(parts) + "\n"


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


def _simulated_swaps(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    lines = [
        "Rows with runs of events or several frontends: the real runs, and what the simulator, with other draws, says "
        "of each other policy\nwith the same batches, runs, frontends and events not known.\n",
        f"| fleet runs, simulator expects | {' | '.join(name.replace('_', ' ') for name in POLICIES)} |",
        "|---" * (len(POLICIES) + 1) + "|",
    ]
    for row in rows:
        differences = [
            row.verdict.independent_difference if name == row.variant.policy else row.swapped(name) for name in POLICIES
        ]
        lines.append(f"| {_short(row)} | {' | '.join(map(_swap_cell, differences))} |")
    return "\n".join(lines) + "\n"


def _short(row: Row) -> str:
    return row.variant.name.split(" |")[0].replace("_", " ")


def _swap_cell(difference: float) -> str:
    text = f"{difference:+.0%}" if difference < 10 else f"x {difference + 1:,.0f}"
    return text if abs(difference) > ALLOWED_DIFFERENCE else f"{difference:+.1%} passes"


def _line(row: Row) -> str:
    verdict = row.verdict
    ratios = [max_over_mean(run.depths) for run in row.runs]
    cells = [
        _short(row),
        str(len(row.runs)),
        f"{statistics.median(ratios):,.2f} ({min(ratios):,.2f} to {max(ratios):,.2f})",
        f"{verdict.measured:,.2f}",
        f"{verdict.simulated:,.2f}",
        f"{verdict.difference:+.1%}",
        f"{verdict.same} of {len(row.runs)}",
        f"{verdict.independent:,.2f}",
        f"{verdict.independent_difference:+.1%} ± {verdict.error:.1%}" if row.variant.policy != "hash" else "-",
        "-" if row.unknown_events is None else f"{row.unknown_events:,.1f}",
        "yes" if verdict.agrees else "**no**" if verdict.is_enough else "too few seeds",
    ]
    return "| " + " | ".join(cells) + " |"
