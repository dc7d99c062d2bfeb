"""Plots of single runs and models: depth over time, the scalability law, the drain, the policies."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from loadtest.plan.findings import Findings, Policy
from loadtest.plan.measured import Drain, Run
from loadtest.plan.readings import is_open, rate_key
from loadtest.plan.report.svg import COLOURS, MARKERS, TEXT, draw, logarithmic
from loadtest.plan.usl import Usl, usl

# A line for each of ten thousand shards is a picture that nobody can open.
MAX_SHARD_LINES = 64


def depths(run: Run, name: str) -> str:
    """Depth of each shard over the run."""

    def paint(axes: Axes) -> None:
        at = [one.at_seconds for one in run.samples]
        shards = np.array([one.depths for one in run.samples])
        for place in range(min(MAX_SHARD_LINES, shards.shape[1])):
            label = "each shard" if place == 0 else None
            axes.plot(at, shards[:, place], color=COLOURS[0], linewidth=0.8, alpha=0.7, label=label)
        axes.plot(at, shards.mean(axis=1), color=COLOURS[1], linewidth=2.2, label="mean of shards")
        axes.set_ylim(bottom=0)

    return draw(f"Depth of each shard over time, {name}", paint, "seconds since the first send", "depth, events")


def scalability(law: Usl) -> str:
    """The law's curve, its interval, and the runs it was fitted to."""

    def paint(axes: Axes) -> None:
        callers = np.geomspace(1, max(one for one, _ in law.points), 80)
        if law.band:
            at, low, high = zip(*law.band, strict=True)
            axes.fill_between(at, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="95 % interval")
        curve = usl(callers, law.lambda_per_second, law.sigma, law.kappa)
        axes.plot(callers, curve, color=COLOURS[0], label="fitted law")
        axes.plot(*zip(*law.points, strict=True), "o", color=COLOURS[1], label="runs")
        if law.peak_callers is not None and law.peak_callers <= callers[-1]:
            axes.axvline(law.peak_callers, color=TEXT, linestyle=(0, (1, 1.5)), label=f"peak: {law.peak_callers:.0f}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(bottom=0)

    return draw("Throughput against callers", paint, "callers at once", "throughput, events/s")


def drain(found: Drain, predicted_seconds: float | None) -> str:
    """The backlog going away, measured and predicted."""

    def paint(axes: Axes) -> None:
        axes.plot(*zip(*found.depths, strict=True), "o-", color=COLOURS[0], markersize=3, label="measured")
        if predicted_seconds is not None:
            ends = [0, predicted_seconds], [found.backlog, found.settled_depth]
            axes.plot(*ends, "--", color=COLOURS[1], label="predicted: B / (mu - lambda)")
        axes.axhline(found.settled_depth, color=TEXT, linestyle=(0, (1, 1.5)), label="depth before the pause")
        axes.set_ylim(bottom=0)

    return draw("Backlog after the pause", paint, "seconds since the pause ended", "depth, events")


def policies(outcomes: Sequence[Policy]) -> str:
    """Deepest shard over the mean, by policy and age of the depths."""

    def paint(axes: Axes) -> None:
        names = list(dict.fromkeys(one.policy for one in outcomes))
        ages = sorted({one.stale_events_a_shard for one in outcomes})
        for place, age in enumerate(ages):
            mine = [one for one in outcomes if one.stale_events_a_shard == age]
            shift = 0.5 * (place - (len(ages) - 1) / 2) / max(1, len(ages))
            at = [len(names) - 1 - names.index(one.policy) - shift for one in mine]
            middle = [one.max_over_mean for one in mine]
            reach = [
                [max(0.0, one.max_over_mean - one.low) for one in mine],
                [max(0.0, one.high - one.max_over_mean) for one in mine],
            ]
            label = "fresh depths" if age == 0 else f"depths {age:g} a shard old"
            marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
            axes.errorbar(middle, at, xerr=reach, fmt=marker, color=colour, capsize=3, label=label)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in reversed(names)])
        axes.set_xscale("log")
        logarithmic(axes.xaxis)

    return draw("Placement policies", paint, "deepest shard over the mean of shards (1 is perfect)", "")


def first_overload(findings: Findings, runs: Sequence[Run]) -> Run | None:
    """The first failing run that has looks."""
    failure = findings.first_failure
    if failure is None:
        return None
    return next(
        (
            run
            for run in runs
            if is_open(run) and run.per_second == failure.per_second and run.failed and len(run.samples) > 1
        ),
        None,
    )


def best_run(findings: Findings, runs: Sequence[Run]) -> Run | None:
    """A run of the best rate that has looks, a repeat before others."""
    rate = rate_key(findings.best.per_second)
    alike = [run for run in runs if is_open(run) and rate_key(run.per_second) == rate and len(run.samples) > 1]
    return next((run for run in alike if run.purpose == "repeat"), alike[0] if alike else None)
