"""What saturates first, with evidence: processes, sandbox slots, the machine, and where events wait. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.best_rate import BestRate, FirstFailure
from loadtest.plan.demand import MIN_RUNS, fit_line, fitted_runs
from loadtest.plan.measured import SERVICES, Measured, Run
from loadtest.plan.readings import (
    completed_per_second,
    cores,
    counted,
    depth_slope,
    is_open,
    mean_in_flight,
    rate_key,
    settled_per_second,
)

# A service's process runs its Python under one lock: it cannot use more than about one core.
PROCESS_CORES = 1.0
# Below this use at the first failing rate a resource is not what failed.
MIN_BUSY = 0.70


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing that can be full. kind: "process" (the busiest one of a service), "slots" (sandboxes that may run at
    once), "machine" (all cores, the generator's use among them, as it ran on the same machine).

    capacity: cores or slots; used_an_event: core-seconds or slot-seconds, by a line over rates; used_idle: its
    intercept. saturates_per_second: where the line meets the capacity; None: use does not grow with the rate.
    use_at_best, use_at_failure: measured, parts of the capacity, 0 to 1.
    """

    kind: str
    service: str
    capacity: float
    used_an_event: float
    used_idle: float
    saturates_per_second: float | None
    use_at_best: float | None
    use_at_failure: float | None

    @property
    def name(self) -> str:
        """For people."""
        if self.kind == "machine":
            return "machine CPU, with the generator"
        return {"process": f"{self.service}: busiest process", "slots": "sandbox slots"}[self.kind]

    @property
    def unit(self) -> str:
        """Of capacity and use."""
        plural = "slots" if self.kind == "slots" else "cores"
        return plural if self.capacity != 1 else plural[:-1]


@dataclass(frozen=True, slots=True)
class Growth:
    """Where events were at the first failing rate. depth_slope_per_second: growth of the depth; waiting: not leased,
    leased, in_flight: at runtime hosts; all means over the counted part."""

    per_second: float
    depth_slope_per_second: float
    waiting: float
    leased: float
    in_flight: float


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """resources: the first to saturate first. service: of the first one, "machine" for its CPU, or "" when none was
    MIN_BUSY used at the first failing rate; evidence: why, in one sentence."""

    service: str
    evidence: str
    resources: Sequence[Resource]
    growth: Growth | None


def bottleneck(measured: Measured, best: BestRate, failure: FirstFailure | None) -> Bottleneck:
    """See Bottleneck."""
    failed_at = failure.per_second if failure else None
    runs = fitted_runs(measured)
    found = [_resource(measured, runs, best, failed_at, *one) for one in _measures(measured)]
    resources = sorted(
        (one for one in found if one is not None), key=lambda one: one.saturates_per_second or float("inf")
    )
    growth = _growth(measured, failed_at)
    service, evidence = _verdict(resources, growth)
    return Bottleneck(service, evidence, tuple(resources), growth)


Measure = tuple[str, str, float, Callable[[Run], float | None], Callable[[Run], float]]


def _measures(measured: Measured) -> list[Measure]:
    fleet, spec = measured.fleet, measured.spec

    def core_of(service: str) -> Callable[[Run], float | None]:
        return lambda run: run.busiest_core.get(service)

    def slots(run: Run) -> float | None:
        used = mean_in_flight(run, spec)
        # Beyond the slots they wait at the host.
        return None if used is None else min(used, float(total_slots))

    def everything(run: Run) -> float:
        return sum(cores(run, one) for one in SERVICES) + spec.drivers * run.result.generator_cpu

    total_slots = fleet.slots * fleet.replicas.get("runtime", 1)
    # Sandboxes are a process each: their slots and the machine bound them, no single process does.
    found: list[Measure] = [
        ("process", name, PROCESS_CORES, core_of(name), settled_per_second) for name in SERVICES if name != "sandboxes"
    ]
    found.append(("slots", "runtime", float(total_slots), slots, completed_per_second))
    found.append(("machine", "machine", float(measured.machine.get("cores", 1)), everything, settled_per_second))
    return found


def _resource(
    measured: Measured,
    runs: Sequence[Run],
    best: BestRate,
    failed_at: float | None,
    kind: str,
    service: str,
    capacity: float,
    use: Callable[[Run], float | None],
    rate: Callable[[Run], float],
) -> Resource | None:
    seen = [(rate(run), used) for run in runs if (used := use(run)) is not None]
    if len(seen) < MIN_RUNS or capacity <= 0 or not any(used for _, used in seen):
        return None
    line = fit_line(service, [at for at, _ in seen], [used for _, used in seen])
    slope, idle = line.cpu_seconds_an_event, line.idle_cores

    def used_at(per_second: float | None) -> float | None:
        if per_second is None:
            return None
        alike = [run for run in measured.runs if is_open(run) and rate_key(run.per_second) == rate_key(per_second)]
        told = [one for run in alike if (one := use(run))]
        return float(np.mean(told)) / capacity if told else None

    saturates = max(0.0, capacity - idle) / slope if slope > 0 else None
    return Resource(kind, service, capacity, slope, idle, saturates, used_at(best.per_second), used_at(failed_at))


def _growth(measured: Measured, failed_at: float | None) -> Growth | None:
    for run in measured.runs:
        looks = counted(run, measured.spec)
        slope = depth_slope(run, measured.spec)
        if failed_at is None or slope is None or not is_open(run) or not run.failed:
            continue
        if rate_key(run.per_second) == rate_key(failed_at):
            depth, leased, in_flight = (
                float(np.mean([getattr(one, name) for one in looks])) for name in ("depth", "leased", "in_flight")
            )
            return Growth(run.per_second, slope, max(0.0, depth - leased), leased, in_flight)
    return None


def _verdict(resources: Sequence[Resource], growth: Growth | None) -> tuple[str, str]:
    busy = [one for one in resources if (one.use_at_failure or one.use_at_best or 0.0) >= MIN_BUSY]
    where = ""
    if growth is not None and growth.depth_slope_per_second > 0.01 * growth.per_second:
        where = f"; the queue grew by {growth.depth_slope_per_second:,.0f} events/s there"
    if not busy and not any(one.use_at_failure is not None for one in resources):
        return "", f"nothing was {100 * MIN_BUSY:.0f} % used at the best rate, and no rate above it failed"
    if not busy:
        return "", (
            f"no process, slot or core was {100 * MIN_BUSY:.0f} % used at the first failing rate: "
            f"it waits for something else (disk, a lock, a bound in the settings){where}"
        )
    first = busy[0]
    use = 100 * (first.use_at_failure if first.use_at_failure is not None else first.use_at_best or 0.0)
    at = "at the first failing rate" if first.use_at_failure is not None else "at the best rate"
    what: Mapping[str, str] = {
        "process": f"the busiest {first.service} process used {use:.0f} % of a core {at}",
        "slots": f"{use:.0f} % of the {first.capacity:,.0f} sandbox slots were taken {at}",
        "machine": f"all services and the generator used {use:.0f} % of the machine's {first.capacity:g} cores {at}",
    }
    return first.service, what[first.kind] + where
