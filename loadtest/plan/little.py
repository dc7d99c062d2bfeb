"""Little's law on every run: what was counted in the fleet against what latencies say should be there. Pure.

L = lambda W (Little 1961) holds for any stable system: a gap means that counts, rates or latencies are wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import completed_per_second, counted, counts, depth_slope, told_handler_seconds

# A larger gap is flagged, when it is also beyond three standard errors of the looks' mean.
MAX_GAP = 0.25
STANDARD_ERRORS = 3.0
# A depth that grows by more of the accepted events than this is not stable: the law says nothing there.
MAX_GROWTH = 0.02


@dataclass(frozen=True, slots=True)
class LittleCheck:
    """of: "events" (accepted and not settled) or "invocations" (at runtime hosts). counted: L, the mean of the looks.

    predicted: lambda W, lambda being the throughput. Of events, W is the mean time to settle less that to accept, or to
    handler start plus the handler's own time where settles were not measured; of invocations, the time that handlers
    were told to take.
    gap: counted over predicted, less 1. steady: the depth did not grow. flagged: steady, and the gap is too large.
    """

    purpose: str
    per_second: float
    callers: int
    of: str
    counted: float
    predicted: float
    gap: float
    steady: bool
    flagged: bool


def checks(measured: Measured) -> Sequence[LittleCheck]:
    """Of every run that counts and has looks and latencies, in the order of the runs."""
    found = []
    for run in measured.runs:
        looks = counted(run, measured.spec)
        if not counts(run) or len(looks) < 2:
            continue
        if (seconds := _seconds_in_fleet(measured, run)) is not None:
            found.append(_check(measured, run, "events", [one.depth for one in looks], seconds))
        if handler_seconds := told_handler_seconds(measured.spec):
            found.append(_check(measured, run, "invocations", [one.in_flight for one in looks], handler_seconds))
    return tuple(found)


def _seconds_in_fleet(measured: Measured, run: Run) -> float | None:
    result, handler_seconds = run.result, told_handler_seconds(measured.spec)
    if result.accept is None:
        return None
    if result.settled is not None:
        return max(0.0, result.settled.mean_ms - result.accept.mean_ms) / 1_000
    if result.start is not None and handler_seconds is not None:
        return max(0.0, result.start.mean_ms - result.accept.mean_ms) / 1_000 + handler_seconds
    return None


def _check(measured: Measured, run: Run, of: str, looks: Sequence[int], seconds: float) -> LittleCheck:
    per_second = completed_per_second(run)
    mean, predicted = float(np.mean(looks)), per_second * seconds
    error = float(np.std(looks, ddof=1)) / len(looks) ** 0.5
    slope = depth_slope(run, measured.spec)
    steady = slope is not None and slope <= MAX_GROWTH * per_second
    wrong = abs(mean - predicted) > max(MAX_GAP * predicted, STANDARD_ERRORS * error)
    gap = mean / predicted - 1 if predicted else 0.0
    return LittleCheck(run.purpose, run.per_second, run.callers, of, mean, predicted, gap, steady, steady and wrong)
