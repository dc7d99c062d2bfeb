"""How long a backlog takes to go away: B / (mu - lambda). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.measured import Measured
from loadtest.plan.readings import completed_per_second

OUTAGE_SECONDS = (60.0, 600.0, 3_600.0)
LOADS = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class DrainCheck:
    """The drain that was measured against B / (mu - lambda), mu being the highest throughput of any run.

    predicted_seconds None: events arrived as fast as they can be worked off. gap: predicted over measured, less 1.
    """

    backlog: int
    arriving_per_second: float
    measured_seconds: float
    predicted_seconds: float | None
    gap: float | None


@dataclass(frozen=True, slots=True)
class DrainRow:
    """After an outage behind the queue, at a load that is this part of the best rate. seconds None: never."""

    outage_seconds: float
    load: float
    arriving_per_second: float
    backlog: float
    seconds: float | None


def capacity_per_second(measured: Measured) -> float:
    """mu: the highest throughput of the valid runs, the mean over runs alike; 0: no valid run."""
    alike: dict[tuple[float, int], list[float]] = {}
    for run in measured.runs:
        if not run.result.void and not run.replicas:
            alike.setdefault((run.per_second, run.callers), []).append(completed_per_second(run, measured.spec))
    return max((float(np.mean(found)) for found in alike.values()), default=0.0)


def drain_seconds(backlog: float, capacity: float, arriving_per_second: float) -> float | None:
    """Until the backlog is gone; None: never."""
    return backlog / (capacity - arriving_per_second) if capacity > arriving_per_second else None


def check(measured: Measured, capacity: float) -> DrainCheck | None:
    """See DrainCheck; None: no drain was measured."""
    drain = measured.drain
    if drain is None:
        return None
    predicted = drain_seconds(drain.backlog, capacity, drain.arriving_per_second)
    gap = predicted / drain.seconds - 1 if predicted is not None and drain.seconds > 0 else None
    return DrainCheck(drain.backlog, drain.arriving_per_second, drain.seconds, predicted, gap)


def table(best_per_second: float, capacity: float) -> Sequence[DrainRow]:
    """Every outage at every load; empty: no rate held."""
    if best_per_second <= 0:
        return ()
    rows = []
    for outage_seconds in OUTAGE_SECONDS:
        for load in LOADS:
            arriving = load * best_per_second
            backlog = outage_seconds * arriving
            rows.append(DrainRow(outage_seconds, load, arriving, backlog, drain_seconds(backlog, capacity, arriving)))
    return tuple(rows)
