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
from loadtest.plan.readings import cores, settled_per_second

# A line and one point more.
MIN_RUNS = 3


@dataclass(frozen=True, slots=True)
class Demand:
    """cpu_seconds_an_event: with a t-interval of the slope; idle_cores: of all its processes together, at least 0.

    held_out: relative errors of the cores of every run, predicted from the other runs. runs: that it was fitted to.
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
    """Valid runs of the fleet as described; those that confirm a prediction stay out of what predicts."""
    return [
        run
        for run in measured.runs
        if not run.result.void and run.settled and run.purpose != "confirm" and not run.replicas
    ]


def demands(measured: Measured) -> Mapping[str, Demand]:
    """By service, those that were seen to use CPU; empty: fewer than MIN_RUNS valid runs, or all at one rate."""
    runs = fitted_runs(measured)
    rates = [settled_per_second(run) for run in runs]
    if len(runs) < MIN_RUNS or np.ptp(rates) == 0:
        return {}
    seen = [name for name in SERVICES if any(run.cpu_seconds.get(name) for run in runs)]
    return {name: fit_line(name, rates, [cores(run, name) for run in runs]) for name in seen}


def fit_line(service: str, per_second: Sequence[float], used_cores: Sequence[float]) -> Demand:
    """The line through (events/s, cores), neither part below 0. ValueError: fewer than MIN_RUNS points."""
    if len(per_second) < MIN_RUNS:
        raise ValueError(f"a demand needs {MIN_RUNS} runs, not {len(per_second)}")
    x, y = np.asarray(per_second, dtype=np.float64), np.asarray(used_cores, dtype=np.float64)
    idle, slope = _line(x, y)
    everyone = np.ones(len(x), dtype=bool)
    errors = []
    for place in range(len(x)):
        left = everyone.copy()
        left[place] = False
        if np.ptp(x[left]) and y[place] > 0:
            its_idle, its_slope = _line(x[left], y[left])
            errors.append(float((its_idle + its_slope * x[place]) / y[place] - 1))
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
