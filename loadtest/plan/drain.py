"""How long a backlog takes to go away: B / (mu - lambda). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.best_rate import BestRate
from loadtest.plan.intervals import Interval, t_interval
from loadtest.plan.measured import Measured
from loadtest.plan.readings import completed_per_second, is_open

OUTAGE_SECONDS = (60.0, 600.0, 3_600.0)
LOADS = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class Capacity:
    """mu, the highest throughput: the mean over repeated runs beyond the best rate. interval: its t-interval, None:
    fewer than 5 of them. is_floor: no overload was repeated, so it is the throughput at the best rate; mu is higher."""

    per_second: float
    interval: Interval | None
    runs: int
    is_floor: bool


@dataclass(frozen=True, slots=True)
class DrainCheck:
    """The drain that was measured against (B - settled depth) / (mu - lambda).

    measured_seconds None: not drained within within_seconds. predicted_seconds None: events arrived as fast as they can
    be worked off, or mu is not known. gap: predicted over measured, less 1. void: why the measurement shows nothing.
    """

    backlog: int
    arriving_per_second: float
    measured_seconds: float | None
    within_seconds: float
    predicted_seconds: float | None
    gap: float | None
    void: Sequence[str]


@dataclass(frozen=True, slots=True)
class DrainRow:
    """After an outage behind the queue, at a load that is this part of the best rate. seconds None: never."""

    outage_seconds: float
    load: float
    arriving_per_second: float
    backlog: float
    seconds: float | None


def capacity(measured: Measured, best: BestRate) -> Capacity | None:
    """See Capacity; None: no rate held, and no overload was repeated."""
    found = [completed_per_second(run) for run in measured.runs if is_open(run) and run.purpose == "overload"]
    if found:
        return Capacity(float(np.mean(found)), t_interval(found), len(found), is_floor=False)
    if not best.per_second:
        return None
    return Capacity(best.completed_per_second, best.completed_interval, best.repeats, is_floor=True)


def drain_seconds(backlog: float, capacity_per_second: float, arriving_per_second: float) -> float | None:
    """Until the backlog is gone; None: never."""
    if capacity_per_second <= arriving_per_second:
        return None
    return backlog / (capacity_per_second - arriving_per_second)


def check(measured: Measured, found: Capacity | None) -> DrainCheck | None:
    """See DrainCheck; None: no drain was measured."""
    drain = measured.drain
    if drain is None:
        return None
    excess, arriving = max(0.0, drain.backlog - drain.settled_depth), drain.arriving_per_second
    predicted = drain_seconds(excess, found.per_second, arriving) if found is not None else None
    gap = predicted / drain.seconds - 1 if predicted is not None and drain.seconds and not drain.void else None
    return DrainCheck(drain.backlog, arriving, drain.seconds, drain.within_seconds, predicted, gap, tuple(drain.void))


def table(best_per_second: float, found: Capacity | None) -> Sequence[DrainRow]:
    """Every outage at every load; empty: no rate held."""
    if best_per_second <= 0 or found is None:
        return ()
    rows = []
    for outage_seconds in OUTAGE_SECONDS:
        for load in LOADS:
            arriving = load * best_per_second
            backlog = outage_seconds * arriving
            seconds = drain_seconds(backlog, found.per_second, arriving)
            rows.append(DrainRow(outage_seconds, load, arriving, backlog, seconds))
    return tuple(rows)
