"""The page docs/simulation/README.md, written from the recorded study alone."""

from collections.abc import Sequence

from loadtest.simulate import flood, table
from loadtest.simulate.checks import ALLOWED, LOAD, Check
from loadtest.simulate.flood import Isolation
from loadtest.simulate.staleness import Curve
from loadtest.simulate.study import CURVE_SHARDS, FLOOD_WINDOWS, PARTS, Study
from loadtest.simulate.table import Cell, Luck

SPREAD, RESPONSES, ISOLATION = "spread.svg", "responses.svg", "isolation.svg"
_HEAD = """# What the simulator says
Written by what `evenflow simulate table --save` calls, part by part; the figures are in `table.json`.
The same seeds give the same figures
(Python {python}, numpy {numpy}; CPU time by part: {spent}).

The simulator runs the fleet's own shard choice and fair order (`services/policy`, imported) on a virtual clock. It is
compared with theory here, and with a real fleet in [docs/placement](../placement/README.md).

**Age of depths.** All depths are told anew every so many events a shard, or service times, and frontends choose by
them until then; own sends are not counted (*board*). In column *exactly so old* each depth is what it was just that
long before; it has fewer seeds ({late}), so compare it where luck plays no part.
The design does not say which it means. Its response times are those of the board (see below), so that is what the
simulator does unless it is told otherwise.

**Design.** Figures of that name come from the project's design, which took them from a simulation of its own before
there was this one. That simulation, its seeds and its settings are not in this repository; the figures are, all of
them, in `loadtest/simulate` (`table.py`, `checks.py`, `flood.py`).
"""
_WHY_TABLE = """Where it differs from the design, and why:

- **hash and shuffle two are the hottest tenant's luck.** The hash puts that tenant into one shard, two shards halve it:
  max / mean is about its part of the traffic times the shards, over the width. {luck}
  The design's figures are within that.
- **random, 100 shards**: the design's 1.34 is above every usual run. The exact expected maximum is 1.26, and even the
  asymptotic formula says 1.30.
- **shuffle quota**: the hot tenants' sets overlap, and which ones do is chance; more tenants, more overlaps.
- **old depths**: between the two meanings of old the figures move by as much as they differ from the design's.
"""
_WHY_THEORY = """± is the standard error over the seeds: where it is not well below {allowed:.0%}, yes and no are luck.
Max - mean is compared, not the maximum, in which the mean hides errors.

- **sqrt(2 (m/n) ln n)** is asymptotic (m >> n ln n). It fails: max - mean is below it at every size that was run. The
  exact distribution of the maximum of n binomials is what random has to hold to.
- **Best of d**: m/n + ln ln n / ln d + O(1) leaves the constant open; the fluid limit has it. That max - mean does not
  grow with the events a shard is seen in the rows of 100 and 1,000. Of 10,000 shards a run with 100 events a shard
  costs ten times one with 10 and has fewer seeds.
- **P(depth >= i)** below 0.1 is not judged: with 100 shards the far tail is heavier than with infinitely many.
- **Design, old depths**: simulated as depths told anew at that age (the board). The least of all shards is run
  with two rules for ties: one of the equals drawn (global least), and, at one age, the first of them (global least
  first), which is no candidate for what the design had.
  {least}
"""
_WHY_STALE = """A frontend that counts its own sends herds less; of many, each knows a smaller part of all sends.
"""
_WHY_FLOOD = """With the flood there is 1.1 times the capacity: depths grow without end where it is spread, and the
part that met more than 50 is a matter of when one counts. The design does not say when it counted. Over all of the
first {length:,.0f} service times the simulator does **not** reproduce it: see the differences. The window from
{begun:,.0f} to {ended:,.0f} was looked for and chosen because its figures come near: it shows that some window does
and checks nothing. Hash and shuffle shards do not depend on that much: theirs are the parts of tenants that share a
shard (hash: 1 of 100), both shards (1 of 4,950), or draw two of the flooded eight (28 of 4,950). One seed each: where
few tenants meet the flood, which ones do is chance.

p99 and never ended are those of the first {length:,.0f} service times. An event that had not ended when the run did
counts with its age; where p99 lies among those, it is shown as more than that ("> X"), and grows with the run.

The order of dequeue changes no depth, only how long an event waits behind it. Mean response of the others: {order}.
Placement keeps a flood in few shards, fair order protects inside them.
"""


def write(study: Study) -> str:
    """The page's text."""
    late = " and ".join(f"{part.delayed_seeds} for {part.shards:,} shards" for part in table.PARTS)
    parts = [_HEAD.format(python=study.python, numpy=study.numpy, spent=_spent(study), late=late)]
    parts.append(f"## Where events land: the design's table\n![max / mean by policy]({SPREAD})\n")
    for shards in dict.fromkeys(cell.shards for cell in study.cells):
        parts.append(_table([cell for cell in study.cells if cell.shards == shards]))
    parts.append(_WHY_TABLE.format(luck=_luck(study.luck)))
    parts.append(f"## Theory\nWithin {ALLOWED:.0%}: yes or no.\n")
    parts.append(_checks(study.checks))
    parts.append(_WHY_THEORY.format(allowed=ALLOWED, least=_least(study.checks)))
    parts.append(
        f"## Old depths\n{CURVE_SHARDS} shards at load {LOAD}.\n\n![mean response by age of depths]({RESPONSES})\n"
    )
    parts.append(_curves(study.curves))
    parts.append(_WHY_STALE)
    parts.append(_flood(study.floods))
    return "\n".join(parts)


def _spent(study: Study) -> str:
    return ", ".join(f"{part} {study.cpu_seconds[part]:,.0f} s" for part in PARTS if part in study.cpu_seconds)


def _table(cells: Sequence[Cell]) -> str:
    first = cells[0]
    lines = [
        f"### {first.shards:,} shards, {first.tenants:,} tenants, {table.EVENTS_A_SHARD} events a shard\n",
        "| policy | age, events a shard | design | max / mean | lowest to highest | ratio | exactly so old |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        lines.append(
            f"| {cell.policy.replace('_', ' ')} | {cell.age} | {_figure(cell.published)} | {_figure(cell.found)} "
            f"| {_figure(cell.low)} to {_figure(cell.high)} | {_figure(cell.ratio)} | {_figure(cell.delayed)} |"
        )
    return "\n".join(lines) + "\n"


def _luck(found: Sequence[Luck]) -> str:
    sizes = {part.tenants: part.shards for part in table.PARTS}
    return " ".join(
        f"Over {table.LUCK_SEEDS} seeds of {luck.tenants:,} tenants that part times {sizes[luck.tenants]:,} shards is "
        f"{_figure(luck.median * sizes[luck.tenants])} in the middle, and for half of the seeds between "
        f"{_figure(luck.quarter * sizes[luck.tenants])} and {_figure(luck.three_quarters * sizes[luck.tenants])}."
        for luck in found
    )


def _checks(found: Sequence[Check]) -> str:
    lines = [
        "| figure | seeds | expected | simulated | difference | ± | by | within |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for check in found:
        verdict = ("yes" if check.holds else "**no**") if check.judged else "not judged"
        error = "-" if check.error is None else f"{check.error:.1%}"
        lines.append(
            f"| {check.name.replace('_', ' ')} | {check.seeds} | {check.expected:.4g} | {check.found:.4g} "
            f"| {check.difference:+.1%} | {error} | {check.source} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _least(found: Sequence[Check]) -> str:
    missed = [check for check in found if check.name.startswith("mean response: global_least,") and not check.holds]
    if not missed:
        return "The former is within it at every age."
    told = "; ".join(
        f"{check.name.removeprefix('mean response: global_least, ')} {check.difference:+.1%} ± {check.error or 0:.1%}"
        for check in missed
    )
    return f"The former is not within it here: {told}. The design tells no seeds, and its own error is not known."


def _curves(curves: Sequence[Curve]) -> str:
    ages = [f"{age:g}" for age in curves[0].ages]
    lines = [f"| mean response, by age in service times | {' | '.join(ages)} |", "|---" * (len(ages) + 1) + "|"]
    for curve in curves:
        lines.append(f"| {curve.name} | {' | '.join(f'{value:.2f}' for value in curve.responses)} |")
    return "\n".join(lines) + "\n"


def _flood(found: Sequence[Isolation]) -> str:
    whole = [one for one in found if (one.begun, one.ended) == FLOOD_WINDOWS[0]]
    late = {one.name: one for one in found if (one.begun, one.ended) == FLOOD_WINDOWS[1]}
    lines = [
        "## A tenant floods",
        f"{flood.TENANTS:,} tenants at {flood.BACKGROUND_LOAD} of the capacity of {CURVE_SHARDS} shards together, "
        f"and one more at {flood.FLOOD_LOAD}.\n",
        f"![what a flood does to others]({ISOLATION})\n",
    ]
    (_, length), (begun, ended) = FLOOD_WINDOWS
    lines.append(
        f"| policy | met over 50, design | 0 to {length:,.0f} | difference | {begun:,.0f} to {ended:,.0f} "
        "| order of arrival: p99 | never ended | fair order: p99 | never ended |"
    )
    lines.append("|---|---|---|---|---|---|---|---|---|")
    by_name = {(one.name, one.order): one for one in whole}
    for name in late:
        fifo, fair, published = by_name[name, "fifo"], by_name[name, "fair"], flood.PUBLISHED[name]
        lines.append(
            f"| {name} | {published:.2%} | {fifo.deep_part:.2%} | {fifo.deep_part / published - 1:+.0%} "
            f"| {late[name].deep_part:.2%} | {fifo.p99_text} | {fifo.never_ended:.2%} | {fair.p99_text} "
            f"| {fair.never_ended:.2%} |"
        )
    spread = [(name, by_name[name, "fifo"], by_name[name, "fair"]) for name in ("best of two", "random")]
    order = "; ".join(
        f"{name} {fair.response:,.1f} with the queue's fair order, at least {fifo.response:,.1f} in order of arrival"
        for name, fifo, fair in spread
    )
    lines.append("")
    lines.append(_WHY_FLOOD.format(length=length, begun=begun, ended=ended, order=order))
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
