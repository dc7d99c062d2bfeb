"""The report for people, written from the recorded rows alone."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.placement.record import Row
from loadtest.placement.spread import max_minus_mean, max_over_mean
from loadtest.placement.variants import IN_FLIGHT_A_SHARD
from loadtest.placement.verdict import ALLOWED_CHOICES, MIN_SEEDS, STANDARD_ERRORS

# capacity.md's table for 100 shards and 100 events a shard: max / mean, skewed tenants.
PUBLISHED_SHARDS = 100
PUBLISHED = {
    "hash": 17.4,
    "random": 1.34,
    "best_of_two": 1.02,
    "best_of_four": 1.01,
    "shuffle_two": 8.5,
    "shuffle_quota": 1.07,
}
_HEAD = """# Where events land
Written by `make placement`; the runs behind it are in `depths.json`, one a line, with every shard's depth.

{about}

Each run sends lognormally skewed traffic (10,000 tenants, sigma 3.55) through the frontend's own accept path into a
real queue process with empty SQLite shards, {seeds} seeds a row. Depths are what the queue node itself reports
(`DescribeShards`) after the last event was durable; then everything is leased and acknowledged, and what came out of
each shard has to be what it said. Draws are seeded.

Expected: the same traffic through a pure simulation of the same policy (`services/policy/shard_choice.py`), 20 draws
a seed. With several frontends it is a range, from depths known at once to depths as old as everything in flight. A
row agrees when the mean of max - mean over the seeds is at most {errors:g} standard errors of the simulation,
{choices:g} choices and what is in flight to one shard ({in_flight} events) outside of that (hash: not at all).
`make placement` fails when a row does not agree, and `tests/unit/loadtest/test_placement.py` shows that depths
recorded under another policy do not.
"""
_READING = """## How to read it
- hash puts all of a tenant's events into one shard: max / mean is about the hottest tenant's part times the shards.
- shuffle two is `shuffle_shard` without quotas (every tenant has two shards); shuffle quota has each tenant's quota.
- Runs (`frontend.choice_run`): with one choice for so many events of a tenant the depths are uneven by a run or two, as
  ADR 7 says; where tenants are mixed, hardly anything is a run.
- Several frontends know their own sends at once and each other's late: that is what costs, not the sends in flight.
- best of two and best of four are nearer to each other than this comparison can tell.
"""
_COLUMNS = "| row | max / mean | expected | max - mean | expected | agrees |\n|---|---|---|---|---|---|"


def write(about: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """The text of docs/placement/README.md."""
    seeds = min(len(row.runs) for row in rows)
    told = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    parts = [
        _HEAD.format(
            about=told, seeds=seeds, errors=STANDARD_ERRORS, choices=ALLOWED_CHOICES, in_flight=IN_FLIGHT_A_SHARD
        )
    ]
    if seeds < MIN_SEEDS:
        parts.append(f"**A short run: {seeds} seeds, of the {MIN_SEEDS} that a comparison needs.**\n")
    groups: dict[tuple[int, int, bool], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant.shards, row.variant.events_a_shard, _is_plain(row)), []).append(row)
    for (shards, size, plain), chosen in groups.items():
        title = "each event chosen by itself" if plain else "runs of events, several frontends"
        parts.append(f"## {shards} shards, {size:,} events a shard: {title}")
        parts.append("Median (lowest to highest) over the seeds.\n")
        parts.append(_table(chosen, with_published=shards == PUBLISHED_SHARDS and plain) + "\n")
    parts.append(_READING)
    return "\n".join(parts)


def _is_plain(row: Row) -> bool:
    return row.variant.choice_run == row.variant.frontends == row.variant.batch == 1


def _table(rows: Sequence[Row], *, with_published: bool) -> str:
    lines = [_COLUMNS]
    if with_published:
        lines = [_COLUMNS.replace(" | agrees", " | capacity.md, max / mean | agrees") + "---|"]
    for row in rows:
        cells = [row.variant.name.split(" |")[0].replace("_", " ")]
        cells.append(_summary([max_over_mean(r.depths) for r in row.runs], 2))
        cells.append(_range([r.fresh.max_over_mean for r in row.runs], [r.stale.max_over_mean for r in row.runs], 2))
        cells.append(_summary([max_minus_mean(r.depths) for r in row.runs], 1))
        cells.append(_range([r.fresh.max_minus_mean for r in row.runs], [r.stale.max_minus_mean for r in row.runs], 1))
        if with_published:
            cells.append(f"{PUBLISHED[row.variant.policy]:g}")
        verdict = row.verdict
        cells.append(
            f"{'yes' if verdict.agrees else '**no**'} (off by {verdict.difference:.1f}, of {verdict.tolerance:.1f})"
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _summary(values: Sequence[float], digits: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def _range(fresh: Sequence[float], stale: Sequence[float], digits: int) -> str:
    ends = sorted(statistics.median(side) for side in (fresh, stale))
    return " to ".join(dict.fromkeys(f"{end:,.{digits}f}" for end in ends))
