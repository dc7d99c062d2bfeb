"""The figures of docs/simulation, and those that a single command draws."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from loadtest.simulate.flood import Isolation
from loadtest.simulate.policies import PolicyOutcome
from loadtest.simulate.staleness import Curve
from loadtest.simulate.table import Cell

# No screen is needed, and the same data are the same bytes.
matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.hashsalt": "evenflow", "font.size": 10, "axes.spines.top": False})
matplotlib.rcParams.update({"axes.spines.right": False, "axes.axisbelow": True})

from matplotlib import pyplot  # noqa: E402 (after the choice of what draws)

SUFFIXES = (".svg", ".png")
# Told apart without colour vision (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_LEAST_SHOWN = 1e-4
_RATIO_TICKS = (1, 2, 5, 10, 30, 100, 300, 1_000, 3_000)


class UnknownSuffix(ValueError):
    """A plot is asked for in a format that is not drawn; the message says which are."""


def spread(cells: Sequence[Cell], path: Path) -> None:
    """max / mean of every policy and age, a panel for each number of shards, with what the design has."""
    sizes = sorted({cell.shards for cell in cells})
    figure, panels = pyplot.subplots(1, len(sizes), figsize=(5.6 * len(sizes), 4.6), squeeze=False)
    for panel, shards in zip(panels[0], sizes, strict=True):
        mine = [cell for cell in cells if cell.shards == shards]
        outcomes = [
            PolicyOutcome(cell.policy, cell.age, cell.found, cell.max_minus_mean, cell.low, cell.high) for cell in mine
        ]
        published = [cell.published for cell in mine]
        _spread_panel(panel, outcomes, published)
        panel.set_title(f"{shards:,} shards, {mine[0].tenants:,} tenants", fontsize=11)
    panels[0][-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def outcomes(found: Sequence[PolicyOutcome], path: Path) -> None:
    """max / mean of one comparison."""
    figure, panel = pyplot.subplots(figsize=(6.4, 4.6))
    _spread_panel(panel, found, [None] * len(found))
    panel.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def responses(curves: Sequence[Curve], path: Path, published: Sequence[tuple[float, float]] = ()) -> None:
    """Mean response against the age of depths; published: (age, response) of the design."""
    figure, panel = pyplot.subplots(figsize=(7.4, 4.8))
    for number, curve in enumerate(curves):
        style = "--" if "own sends" in curve.name else "-"
        colour = _COLOURS[number % len(_COLOURS)]
        panel.plot(curve.ages, curve.responses, style, marker="o", markersize=4, color=colour, label=curve.name)
    if published:
        panel.plot(*zip(*published, strict=True), "k+", markersize=11, markeredgewidth=1.6, label="design")
    panel.set_yscale("log")
    panel.set_yticks([1, 2, 5, 10, 20, 50], labels=["1", "2", "5", "10", "20", "50"])
    panel.set_xticks(sorted({age for curve in curves for age in curve.ages}))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.grid(axis="y", color="#dddddd", linewidth=0.6)
    panel.set_xlabel("age of the depths when they are told anew, service times")
    panel.set_ylabel("mean response, service times (log)")
    panel.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def isolation(found: Sequence[Isolation], path: Path) -> None:
    """Two panels by policy: events of the others that met a deep shard, and their p99 response by order of dequeue."""
    names = list(dict.fromkeys(one.name for one in found))
    orders = list(dict.fromkeys(one.order for one in found))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 3.8), sharey=True)
    first = {one.name: one.deep_part for one in found if one.order == orders[0]}
    places = range(len(names))
    shown = [max(first[name] * 100, _LEAST_SHOWN * 100) for name in names]
    left.barh(places, shown, color=_COLOURS[0], height=0.6)
    for place, name in zip(places, names, strict=True):
        left.annotate(_percent(first[name]), (shown[place], place), (4, 0), textcoords="offset points", va="center")
    left.set_xscale("log")
    left.set_xlim(_LEAST_SHOWN * 100, 400)
    left.set_xticks([0.01, 0.1, 1, 10, 100], labels=["0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
    left.set_title("others' events that met a depth over 50 (log)", fontsize=10)
    left.set_yticks(list(places), labels=names)
    left.invert_yaxis()
    height = 0.7 / len(orders)
    for number, order in enumerate(orders):
        values = {one.name: one.response_p99 for one in found if one.order == order}
        texts = {one.name: one.p99_text for one in found if one.order == order}
        rows = [place + (number - (len(orders) - 1) / 2) * height for place in places]
        right.barh(rows, [values[name] for name in names], height=height, color=_COLOURS[number + 1], label=order)
        for row, name in zip(rows, names, strict=True):
            right.annotate(
                texts[name],
                (values[name], row),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
    right.set_xscale("log")
    right.set_xlim(1, 4 * max(one.response_p99 for one in found))
    right.set_xticks([tick for tick in _RATIO_TICKS if tick < right.get_xlim()[1]])
    right.xaxis.set_major_formatter("{x:,.0f}")
    right.set_title("p99 of the others' response, service times (log)", fontsize=10)
    right.legend(frameon=False, fontsize=9, title="dequeue", loc="center left", bbox_to_anchor=(1.0, 0.5))
    for panel in (left, right):
        panel.minorticks_off()
        panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    _save(figure, path)


def check_path(path: Path) -> None:
    """UnknownSuffix: no such format is drawn."""
    if path.suffix not in SUFFIXES:
        raise UnknownSuffix(f"{path.name}: a plot ends in {' or '.join(SUFFIXES)}")


def _spread_panel(panel: Any, found: Sequence[PolicyOutcome], published: Sequence[float | None]) -> None:
    names = list(dict.fromkeys(one.policy for one in found))
    ages = list(dict.fromkeys(one.stale_events_a_shard for one in found))
    bars = Counter(one.policy for one in found)
    height = 0.8 / len(ages)
    told = False
    for number, age in enumerate(ages):
        mine = [(place, one) for place, one in enumerate(found) if one.stale_events_a_shard == age]
        # A policy that looks at no depth has one bar, on its own line.
        at = [
            names.index(one.policy) + (0.0 if bars[one.policy] == 1 else (number - (len(ages) - 1) / 2) * height)
            for _, one in mine
        ]
        heights = [one.max_over_mean for _, one in mine]
        label = "depths fresh" if not age else f"{age} event{'s' if age > 1 else ''} a shard old"
        ends = [[one.max_over_mean - one.low for _, one in mine], [one.high - one.max_over_mean for _, one in mine]]
        panel.barh(at, heights, height=height * 0.95, color=_COLOURS[number % len(_COLOURS)], label=label)
        panel.errorbar(heights, at, xerr=ends, fmt="none", ecolor="#444444", elinewidth=0.8, capsize=2)
        for where, (place, one) in zip(at, mine, strict=True):
            panel.annotate(
                _ratio(one.max_over_mean),
                (one.high, where),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            known = published[place]
            if known is not None:
                panel.plot([known], [where], "k+", markersize=8, label=None if told else "design")
                told = True
    panel.set_xscale("log")
    panel.set_xlim(1, 2.2 * max(one.high for one in found))
    ticks = [tick for tick in _RATIO_TICKS if tick < panel.get_xlim()[1]]
    panel.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    panel.minorticks_off()
    panel.set_yticks(range(len(names)), labels=[name.replace("_", " ") for name in names])
    panel.invert_yaxis()
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.set_xlabel("deepest shard / mean (log; 1 is perfect), lowest to highest seed")


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _percent(part: float) -> str:
    return "none" if not part else f"{part:.2%}" if part < 0.1 else f"{part:.0%}"


def _save(figure: Any, path: Path) -> None:
    check_path(path)
    figure.savefig(path, bbox_inches="tight", dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
