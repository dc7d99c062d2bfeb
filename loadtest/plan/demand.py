"""CPU that one event costs each service. Pure.

The service demand law (Denning and Buzen 1978): utilisation = throughput x demand. Over many runs the cores that a
service uses are a line over the events it ends a second: the slope is the demand, the intercept what it uses idle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.intervals import CONFIDENCE, HeldOut, Interval, held_out
from loadtest.plan.measured import SERVICES, Measured, Run
from loadtest.plan.numerics import Numbers, least_squares_from_zero, t_quantile
from loadtest.plan.readings import cores, counts, rate_key, settled_per_second

# A line and one point more.
MIN_RUNS = 3


@dataclass(frozen=True, slots=True)
class Demand:
    """cpu_seconds_an_event: with a t-interval of the slope; idle_cores: of all its processes together, at least 0.

    held_out: relative errors of the cores of every run, predicted from the runs at other rates: those at its own rate
    are left out with it. runs: that it was fitted to.
    """

    service: str
    cpu_seconds_an_event: float
    interval: Interval | None
    idle_cores: float
    held_out: HeldOut | None
    runs: int

    def cores(self, per_second: float) -> float:
        """Cores at this rate, on average."""
        return self.idle_cores + per_second * self.cpu_seconds_an_event


def fitted_runs(measured: Measured) -> list[Run]:
    """Valid runs of this fleet that settled events; those that confirm a prediction stay out of what predicts."""
    return [run for run in measured.runs if counts(run) and run.settled]


def demands(measured: Measured) -> Mapping[str, Demand]:
    """By service, those that were seen to use CPU; empty: fewer than MIN_RUNS valid runs, or all at one rate."""
    runs = fitted_runs(measured)
    rates = [settled_per_second(run) for run in runs]
    if len(runs) < MIN_RUNS or np.ptp(rates) == 0:
        return {}
    seen = [name for name in SERVICES if any(run.cpu_seconds.get(name) for run in runs)]
    levels = [f"{rate_key(run.per_second)} {run.callers}" for run in runs]
    return {name: fit_line(name, rates, [cores(run, name) for run in runs], levels) for name in seen}


def fit_line(
    service: str, per_second: Sequence[float], used_cores: Sequence[float], levels: Sequence[str] | None = None
) -> Demand:
    """The line through (events/s, cores), neither part below 0. levels: of each point, those of one level are left out
    together for the held-out error (None: each is its own). ValueError: fewer than MIN_RUNS points."""
    if len(per_second) < MIN_RUNS:
        raise ValueError(f"a demand needs {MIN_RUNS} runs, not {len(per_second)}")
    x, y = np.asarray(per_second, dtype=np.float64), np.asarray(used_cores, dtype=np.float64)
    idle, slope = _line(x, y)
    told = np.arange(len(x)) if levels is None else np.asarray(levels)
    errors: list[float] = []
    for level in np.unique(told):
        left = told != level
        out = ~left & (y > 0)
        if left.any() and np.ptp(x[left]):
            its_idle, its_slope = _line(x[left], y[left])
            errors.extend((its_idle + its_slope * x[out]) / y[out] - 1)
    return Demand(service, slope, _slope_interval(x, y, idle, slope), idle, held_out(errors), len(x))


def _line(x: Numbers, y: Numbers) -> tuple[float, float]:
    # Rates in thousands beside a column of ones: scaled, or the solver loses digits.
    scale = float(x.max()) or 1.0
    idle, slope = least_squares_from_zero(np.stack([np.ones_like(x), x / scale], axis=1), y)
    return float(idle), float(slope) / scale


def _slope_interval(x: Numbers, y: Numbers, idle: float, slope: float) -> Interval | None:
    spread = float(np.sum((x - x.mean()) ** 2))
    if len(x) < MIN_RUNS + 2 or not spread:
        return None
    spare = len(x) - 2
    error = float(np.sqrt(np.sum((y - idle - slope * x) ** 2) / spare / spread))
    reach = t_quantile((1 + CONFIDENCE) / 2, spare) * error
    return Interval(max(0.0, slope - reach), slope + reach)
