"""What one run's samples and result say, as single figures. Pure."""

import math
from collections.abc import Sequence

import numpy as np

from loadtest.open_loop.spec import LoadSpec
from loadtest.plan.measured import Objective, Run, Sample

# A bound of the objective by its short name, and how it is written for people.
BOUND_WORDS = {
    "accept": "time to accept, p99",
    "start": "time to handler start, p99",
    "errors": "errors",
    "backlog": "backlog growth",
}
# Looks within the counted part that a growth of the depth is told from.
SLOPE_SAMPLES = 3
# Of a Poisson number of events, around its mean.
_DEPTH_DEVIATIONS = 3.0


def is_of_fleet(run: Run) -> bool:
    """Whether it ran on the fleet that the plan is about, not on another one that confirms a prediction."""
    return run.purpose != "confirm" and not run.replicas


def counts(run: Run) -> bool:
    """Whether any finding may use it: valid, and of this fleet."""
    return is_of_fleet(run) and not run.result.void


def is_open(run: Run) -> bool:
    """Whether it counts for the latency curve: its schedule did not wait for answers."""
    return counts(run) and run.callers == 0


def rate_key(per_second: float) -> float:
    """The rate by which runs are alike: 400.0001/s is 400/s."""
    return float(f"{per_second:.4g}")


def rate_words(per_second: float) -> str:
    """A rate for people: 336.36 is 336/s, 2.5 is 2.5/s."""
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.3g}/s"


def counted(run: Run, spec: LoadSpec) -> Sequence[Sample]:
    """The looks within the counted part of the schedule."""
    return tuple(one for one in run.samples if spec.warm_up_seconds <= one.at_seconds <= spec.traffic.seconds)


def depth_slope(run: Run, spec: LoadSpec) -> float | None:
    """Growth of the depth over the counted part, events/s, by least squares; None: too few looks."""
    looks = counted(run, spec)
    if len(looks) < SLOPE_SAMPLES:
        return None
    slope, _ = np.polyfit([one.at_seconds for one in looks], [one.depth for one in looks], 1)
    return float(slope)


def completed_per_second(run: Run) -> float:
    """Throughput: events that ended within the counted part, per second. By the fleet's counters; where they were not
    seen by the handlers' records, and without those by what ended until it was drained."""
    if run.ended is not None:
        return run.ended / run.result.seconds
    return run.result.completed / run.result.seconds if run.result.completed else settled_per_second(run)


def settled_per_second(run: Run) -> float:
    """Events that ended over the time that `cpu_seconds` belongs to."""
    return run.settled / cpu_window_seconds(run)


def cpu_window_seconds(run: Run) -> float:
    """The time over which CPU and settled events were counted: the schedule's counted part and the drain."""
    return max(run.result.seconds + run.result.drained_seconds, 1e-9)


def cores(run: Run, service: str) -> float:
    """Cores that this service used on average; 0 where it was not seen."""
    return run.cpu_seconds.get(service, 0.0) / cpu_window_seconds(run)


def mean_depth(run: Run, spec: LoadSpec) -> float | None:
    """Events not settled, on average over the counted part; None: no looks."""
    looks = counted(run, spec)
    return float(np.mean([one.depth for one in looks])) if looks else None


def mean_in_flight(run: Run, spec: LoadSpec) -> float | None:
    """Invocations at runtime hosts, on average over the counted part; None: no looks."""
    looks = counted(run, spec)
    return float(np.mean([one.in_flight for one in looks])) if looks else None


def told_handler_seconds(spec: LoadSpec) -> float | None:
    """How long every handler was told to take; None: the schedule gives each event its own time (a replay)."""
    return None if spec.traffic.replay else (spec.work.sleep_ms + spec.work.burn_ms) / 1_000


def bound_use(run: Run, objective: Objective, spec: LoadSpec) -> dict[str, float]:
    """How much of each measured bound the run used, by its name in BOUND_WORDS; above 1 it did not hold."""
    result = run.result
    # An objective of no errors at all: one is beyond it.
    used = {"errors": result.error_part / (objective.error_part or 1e-9)}
    if result.accept is not None:
        used["accept"] = result.accept.p99_ms / objective.accept_p99_ms
    if result.start is not None:
        used["start"] = result.start.p99_ms / objective.start_p99_ms
    slope = depth_slope(run, spec)
    if slope is not None and result.accepted:
        used["backlog"] = max(0.0, slope * result.seconds) / backlog_allowed(run, objective, spec)
    return used


def backlog_allowed(run: Run, objective: Objective, spec: LoadSpec) -> float:
    """Events by which the depth may grow over the counted part: what the objective says, and never less than a depth
    that stays the same on average is seen to vary by. Of few events a part is less than one."""
    varies = _DEPTH_DEVIATIONS * math.sqrt(1 + (mean_depth(run, spec) or 0.0))
    return max(objective.backlog_part * run.result.accepted, varies)
