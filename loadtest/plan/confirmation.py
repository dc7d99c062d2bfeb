"""The prediction put to the test at rates that were not used for the fit. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.plan.demand import Demand
from loadtest.plan.measured import SERVICES, Measured
from loadtest.plan.readings import cores, settled_per_second
from loadtest.plan.replicas import Needed


@dataclass(frozen=True, slots=True)
class Confirmation:
    """One "confirm" run. replicas: that ran; enough: at least as many of each service as the plan asks for at this
    rate; held: it held the objective. right: it was enough and it held, or it was not enough and it did not.
    predicted_cores: of all services at its throughput, from the other runs; gap: predicted over measured, less 1."""

    per_second: float
    replicas: Mapping[str, int]
    asked: Mapping[str, int]
    enough: bool
    held: bool
    right: bool
    predicted_cores: float
    measured_cores: float
    gap: float


def confirmations(
    measured: Measured, demands: Mapping[str, Demand], needed: Mapping[float, Needed]
) -> Sequence[Confirmation]:
    """Of every valid run that confirms. needed: what the plan asks for, by the runs' rates."""
    found = []
    for run in measured.runs:
        if run.purpose != "confirm" or run.result.void or not demands:
            continue
        replicas = {**measured.fleet.replicas, **run.replicas}
        asked = needed[run.per_second].replicas
        enough = all(replicas.get(name, 0) >= count for name, count in asked.items())
        rate = settled_per_second(run)
        predicted = sum(
            demand.cpu_seconds_an_event * rate
            + demand.idle_cores * (replicas.get(name, 1) / max(1, measured.fleet.replicas.get(name, 1)))
            for name, demand in demands.items()
        )
        used = sum(cores(run, name) for name in SERVICES)
        gap = predicted / used - 1 if used else 0.0
        held = not run.failed
        found.append(Confirmation(run.per_second, replicas, asked, enough, held, enough == held, predicted, used, gap))
    return tuple(found)
