"""The highest rate that holds the objective, its interval, what fails first above it, and the knee. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from loadtest.plan.curve import crossing
from loadtest.plan.intervals import MIN_REPEATS, Interval, bootstrap, t_interval
from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import BOUND_WORDS, bound_use, completed_per_second, is_of_fleet, is_open, rate_key

# The knee: where the p99 is this many times its floor. For M/M/1 every percentile of the response time is twice its
# floor at half load, which is also where Kleinrock's power (rate over response time) is highest (Kleinrock 1979,
# "Power and deterministic rules of thumb"). Unlike the farthest point from a chord it does not depend on how far
# beyond the knee the rates went.
KNEE_TIMES = 2.0
# How far beyond a bound a run may count: a stalled run's p99 of a minute says no more than ten times the bound.
_MOST_LOG_USE = math.log(10.0)


@dataclass(frozen=True, slots=True)
class BestRate:
    """per_second: the highest rate offered at which more than half of the valid runs held every bound; 0: none. One
    with MIN_REPEATS valid runs goes before one with fewer, and one that was repeated before a higher one that was not;
    where there are repeats only they count. Runs around the best rate are too few to be one themselves.

    repeats: valid runs at this rate, held: of them, void: left out. completed_per_second: mean over these runs of
    events ended a second, with its t-interval; None: why_no_interval says why. limit_per_second: where the use of the
    objective's tightest bound crosses 1 on an isotonic fit over all valid open runs (None: nothing tested failed),
    with a bootstrap interval over runs.
    """

    per_second: float
    repeats: int
    held: int
    void: int
    completed_per_second: float
    completed_interval: Interval | None
    why_no_interval: str
    accept_p99_ms: float | None
    start_p99_ms: float | None
    limit_per_second: float | None
    limit_interval: Interval | None


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """The lowest rate above the best one at which runs failed. bound: a name of BOUND_WORDS, or "" when the figures do
    not show it; use: times the bound, on that run; words: what the run itself told."""

    per_second: float
    bound: str
    use: float
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Knee:
    """Where `of` ("accept" or "start") p99 reaches KNEE_TIMES its floor. per_second None: not among the tested."""

    of: str
    per_second: float | None
    floor_p99_ms: float


def best_rate(measured: Measured) -> BestRate:
    """See BestRate."""
    runs = sorted(filter(is_open, measured.runs), key=lambda run: run.per_second)
    best = _best_runs(runs)
    rate = best[0].per_second if best else 0.0
    void = [
        run
        for run in measured.runs
        if run.result.void and is_of_fleet(run) and not run.callers and rate_key(run.per_second) == rate_key(rate)
    ]
    completed = [completed_per_second(run) for run in best]
    limit, interval = _limit(runs, measured)
    return BestRate(
        per_second=rate,
        repeats=len(best),
        held=sum(not run.failed for run in best),
        void=len(void),
        completed_per_second=float(np.mean(completed)) if completed else 0.0,
        completed_interval=t_interval(completed),
        why_no_interval=_why_no_interval(best),
        accept_p99_ms=_median([run.result.accept.p99_ms for run in best if run.result.accept]),
        start_p99_ms=_median([run.result.start.p99_ms for run in best if run.result.start]),
        limit_per_second=limit,
        limit_interval=interval,
    )


def first_failure(measured: Measured, best: BestRate) -> FirstFailure | None:
    """See FirstFailure; None: no valid run above the best rate failed."""
    above = rate_key(best.per_second)
    failed = [run for run in measured.runs if is_open(run) and run.failed and rate_key(run.per_second) > above]
    if not failed:
        return None
    run = min(failed, key=lambda run: run.per_second)
    used = bound_use(run, measured.objective, measured.spec)
    bound, use = max(used.items(), key=lambda one: one[1])
    return FirstFailure(run.per_second, bound if use > 1 else "", use, tuple(run.failed))


def knee(measured: Measured) -> Knee | None:
    """See Knee: of handler starts where they were measured, else of accepts; None: no latencies."""
    runs = [run for run in measured.runs if is_open(run)]
    of = "start" if all(run.result.start for run in runs) else "accept"
    found = [(run.per_second, one.p99_ms) for run in runs if (one := getattr(run.result, of)) is not None]
    if not found:
        return None
    rates, logs = [rate_key(rate) for rate, _ in found], [math.log(p99_ms) for _, p99_ms in found]
    floor = min(
        float(np.median([log for at, log in zip(rates, logs, strict=True) if at == rate])) for rate in set(rates)
    )
    return Knee(of, crossing(rates, logs, floor + math.log(KNEE_TIMES)), math.exp(floor))


def _best_runs(runs: Sequence[Run]) -> Sequence[Run]:
    held: list[list[Run]] = []
    for _, group in groupby(runs, key=lambda run: rate_key(run.per_second)):
        at_rate = _eligible(list(group))
        if 2 * sum(not run.failed for run in at_rate) > len(at_rate):
            held.append(at_rate)
    enough = [one for one in held if len(one) >= MIN_REPEATS]
    repeated = [one for one in held if one[0].purpose == "repeat"]
    return (enough or repeated or held or [[]])[-1]


def _eligible(at_rate: list[Run]) -> list[Run]:
    # A search chose the rate because its run held: that run leans towards holding, the repeats do not.
    if repeats := [run for run in at_rate if run.purpose == "repeat"]:
        return repeats
    if len(at_rate) >= MIN_REPEATS:
        return at_rate
    return [run for run in at_rate if run.purpose != "around"]


def _why_no_interval(best: Sequence[Run]) -> str:
    if not best:
        return "no rate held"
    if len(best) >= MIN_REPEATS:
        return ""
    return f"{len(best)} valid {'run' if len(best) == 1 else 'runs'} at this rate, an interval needs {MIN_REPEATS}"


def _limit(runs: Sequence[Run], measured: Measured) -> tuple[float | None, Interval | None]:
    rates = np.array([run.per_second for run in runs])
    uses = np.array([_log_use(run, measured) for run in runs])
    limit = crossing(list(rates), list(uses), 0.0) if len(runs) else None
    if limit is None:
        return None, None

    def resampled(places: NDArray[np.int64]) -> float:
        found = crossing(list(rates[places]), list(uses[places]), 0.0)
        # All that were drawn held: it is at least the highest of them.
        return float(rates[places].max()) if found is None else found

    return limit, bootstrap(len(runs), resampled)


def _log_use(run: Run, measured: Measured) -> float:
    most = max(bound_use(run, measured.objective, measured.spec).values())
    log_use = max(-_MOST_LOG_USE, min(_MOST_LOG_USE, math.log(max(most, 1e-9))))
    # The run's own verdict is the truth; the figures tell how near it was.
    return max(log_use, 1e-6) if run.failed else min(log_use, 0.0)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def bound_words(bound: str) -> str:
    """The bound's name for people."""
    return BOUND_WORDS.get(bound, "a bound that the figures do not show")
