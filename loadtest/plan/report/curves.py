"""Plots against the rate: latencies, throughput, CPU. Several plans may lie on top of each other."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from loadtest.open_loop.result import Latency
from loadtest.plan.demand import fitted_runs
from loadtest.plan.findings import Findings
from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import completed_per_second, cores, is_of_fleet, is_open, settled_per_second
from loadtest.plan.report.svg import COLOURS, DASHES, MARKERS, TEXT, draw, logarithmic

RATE = "offered rate, events/s"
Plans = Mapping[str, Measured]


def latency(plans: Plans, of: str, bound_ms: float, quantiles: Sequence[str] = ("p50", "p99")) -> str:
    """Percentiles of "accept" or "start" against the rate, the objective as a line, void runs as crosses."""

    def paint(axes: Axes) -> None:
        styles = iter(zip(COLOURS, MARKERS, DASHES, strict=True))
        for name, plan in plans.items():
            runs = [run for run in plan.runs if is_of_fleet(run) and not run.callers and _latency(run, of)]
            valid = [run for run in runs if is_open(run)]
            for quantile in quantiles:
                colour, marker, dash = next(styles)
                label = f"{name} {quantile}".strip()
                at, values = _points(valid, partial(_quantile, of=of, quantile=quantile))
                _scatter(axes, at, values, colour, marker, dash, label)
            void = [run for run in runs if run.result.void]
            if void:
                told = [_quantile(run, of, quantiles[-1]) for run in void]
                axes.plot([run.per_second for run in void], told, "x", color=TEXT, label="void run")
        axes.axhline(bound_ms, color=TEXT, linestyle=(0, (1, 1.5)), label=f"objective: p99 {bound_ms:g} ms")
        axes.set_yscale("log")
        logarithmic(axes.yaxis)

    what = {"accept": "to accept", "start": "to handler start"}[of]
    return draw(f"Time {what} against rate, {' and '.join(plans)}", paint, RATE, f"time {what}, ms")


def throughput(plans: Plans) -> str:
    """Events ended a second against those offered; on the diagonal it keeps up."""

    def paint(axes: Axes) -> None:
        most = 0.0
        for (name, plan), colour, marker, dash in zip(plans.items(), COLOURS, MARKERS, DASHES, strict=False):
            valid = [run for run in plan.runs if is_open(run)]
            at, values = _points(valid, completed_per_second)
            _scatter(axes, at, values, colour, marker, dash, f"{name} events ended".strip())
            most = max([most, *at])
        axes.plot([0, most], [0, most], color=TEXT, linestyle=(0, (1, 1.5)), label="as offered")
        axes.set_ylim(bottom=0)

    return draw(f"Throughput against rate, {' and '.join(plans)}", paint, RATE, "throughput, events/s")


def cpu(measured: Measured, findings: Findings) -> str:
    """Cores of each service against events ended a second, with the demand's line."""

    def paint(axes: Axes) -> None:
        runs = fitted_runs(measured)
        rates = np.array([settled_per_second(run) for run in runs])
        ends = np.array([0.0, float(rates.max(initial=0.0))])
        for demand, colour, marker, dash in zip(findings.demands.values(), COLOURS, MARKERS, DASHES, strict=False):
            used = [cores(run, demand.service) for run in runs]
            axes.plot(rates, used, marker, color=colour, alpha=0.55, markersize=4)
            line = [demand.cores(one) for one in ends]
            axes.plot(ends, line, color=colour, linestyle=dash, marker=marker, label=demand.service)
        axes.set_ylim(bottom=0)

    return draw("CPU of each service against throughput", paint, "throughput, events/s", "CPU, cores", 3)


def _latency(run: Run, of: str) -> Latency | None:
    found: Latency | None = getattr(run.result, of)
    return found


def _quantile(run: Run, of: str, quantile: str) -> float:
    return float(getattr(_latency(run, of), f"{quantile}_ms"))


def _points(runs: Sequence[Run], value: Callable[[Run], float]) -> tuple[list[float], list[float]]:
    ordered = sorted(runs, key=lambda run: run.per_second)
    return [run.per_second for run in ordered], [value(run) for run in ordered]


def _scatter(
    axes: Axes, at: list[float], values: list[float], colour: str, marker: str, dash: object, label: str
) -> None:
    """Every run a point, the line through the medians."""
    axes.plot(at, values, marker, color=colour, alpha=0.45, markersize=4)
    rates = sorted(set(at))
    medians = [float(np.median([one for x, one in zip(at, values, strict=True) if x == rate])) for rate in rates]
    axes.plot(rates, medians, color=colour, linestyle=dash, marker=marker, label=label)
