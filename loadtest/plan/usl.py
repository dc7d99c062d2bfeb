"""The Universal Scalability Law fitted to the runs with a set number of callers. Pure.

X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)): Gunther, "Guerrilla Capacity Planning" (2007), chapter 4.
lambda: what one caller gets; sigma: the part that is serial (contention); kappa: the cost of agreeing (coherency).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.plan.intervals import MIN_REPEATS, RESAMPLES, HeldOut, Interval, held_out, percentile
from loadtest.plan.measured import Measured
from loadtest.plan.numerics import Numbers, fit_curve, least_squares_from_zero
from loadtest.plan.readings import completed_per_second, counts

# Three parameters: with one number of callers more, an error can be told.
MIN_LEVELS = 4
_LARGEST = (np.inf, 1.0, np.inf)
_SEED = 20_082
# A coefficient below it is none: it would show beyond a million callers.
_NONE = 1e-9
_BAND_PLACES = 40


@dataclass(frozen=True, slots=True)
class Usl:
    """The fit, by relative errors. Intervals: residual bootstrap (relative residuals, drawn anew around the curve).

    peak_callers: N* = sqrt((1 - sigma) / kappa), None: throughput never falls; peak_per_second: X there, or what it
    tends to (lambda / sigma), None when it grows without end. held_out: each number of callers, predicted from the
    others. points: (callers, events/s) of every run it was fitted to. band: (callers, low, high) of the curve over the
    resamples, for drawing.
    """

    lambda_per_second: float
    sigma: float
    kappa: float
    lambda_interval: Interval | None
    sigma_interval: Interval | None
    kappa_interval: Interval | None
    peak_callers: float | None
    peak_per_second: float | None
    peak_interval: Interval | None
    held_out: HeldOut | None
    points: Sequence[tuple[int, float]]
    band: Sequence[tuple[float, float, float]]

    def per_second(self, callers: float) -> float:
        """X of so many callers."""
        return float(usl(np.array([callers]), self.lambda_per_second, self.sigma, self.kappa)[0])


def usl(callers: Numbers, lambda_per_second: float, sigma: float, kappa: float) -> Numbers:
    """Events/s of so many callers."""
    result: Numbers = lambda_per_second * callers / (1 + sigma * (callers - 1) + kappa * callers * (callers - 1))
    return result


def fit(measured: Measured) -> Usl | None:
    """The law of the valid runs that had callers; None: fewer than MIN_LEVELS different numbers of them."""
    points = [
        (run.callers, rate)
        for run in measured.runs
        if run.callers and counts(run) and (rate := completed_per_second(run)) > 0
    ]
    return fit_points(points)


def fit_points(points: Sequence[tuple[int, float]]) -> Usl | None:
    """The law of these (callers, events/s); None: fewer than MIN_LEVELS different numbers of callers."""
    callers = np.array([one for one, _ in points], dtype=np.float64)
    per_second = np.array([one for _, one in points], dtype=np.float64)
    if len(np.unique(callers)) < MIN_LEVELS:
        return None
    found = _parameters(callers, per_second)
    peak, most = _peak(*found)
    resampled = _resampled(callers, per_second, found)
    spread = [percentile([one[place] for one in resampled]) if resampled else None for place in range(3)]
    peaks = [one for parameters in resampled if (one := _peak(*parameters)[0]) is not None]
    return Usl(
        lambda_per_second=found[0],
        sigma=found[1],
        kappa=found[2],
        lambda_interval=spread[0],
        sigma_interval=spread[1],
        kappa_interval=spread[2],
        peak_callers=peak,
        peak_per_second=most,
        # Only where nearly every resample has a peak is it one that the data show.
        peak_interval=percentile(peaks) if peak is not None and len(peaks) > 0.975 * len(resampled) > 0 else None,
        held_out=_held_out(callers, per_second),
        points=tuple((int(one), float(x)) for one, x in points),
        band=_band(float(callers.max()), resampled),
    )


def _parameters(callers: Numbers, per_second: Numbers) -> tuple[float, float, float]:
    # N / X is linear in (1, sigma, kappa) / lambda: a start so near that the fit needs few steps.
    columns = np.stack([np.ones_like(callers), callers - 1, callers * (callers - 1)], axis=1)
    weights = per_second / callers
    one, contention, coherency = least_squares_from_zero(columns * weights[:, None], np.ones_like(callers))
    one = max(one, 1e-12)
    start = np.clip([1 / one, contention / one, coherency / one], 0, _LARGEST)
    # Relative errors: one caller's rate counts as much as a hundred's.
    found = fit_curve(usl, callers, per_second, start, _LARGEST)
    return found[0], found[1], found[2]


def _peak(lambda_per_second: float, sigma: float, kappa: float) -> tuple[float | None, float | None]:
    if kappa < _NONE:
        return None, (lambda_per_second / sigma if sigma > _NONE else None)
    peak = max(1.0, math.sqrt(max(0.0, 1 - sigma) / kappa))
    return peak, float(usl(np.array([peak]), lambda_per_second, sigma, kappa)[0])


def _resampled(
    callers: Numbers, per_second: Numbers, found: tuple[float, float, float]
) -> list[tuple[float, float, float]]:
    spare = len(callers) - 3
    if len(callers) < MIN_REPEATS or spare < 1:
        return []
    fitted = usl(callers, *found)
    # The fit has used up three degrees of freedom: what is left varies less than the runs do.
    residuals = (per_second / fitted - 1) * math.sqrt(len(callers) / spare)
    draw = np.random.default_rng(_SEED)
    return [
        _parameters(callers, np.maximum(fitted * (1 + draw.choice(residuals, len(callers))), 1e-9))
        for _ in range(RESAMPLES // 2)
    ]


def _band(most_callers: float, resampled: list[tuple[float, float, float]]) -> tuple[tuple[float, float, float], ...]:
    if not resampled:
        return ()
    places = np.geomspace(1.0, most_callers, _BAND_PLACES)
    curves = np.stack([usl(places, *parameters) for parameters in resampled])
    spread = [percentile(list(column)) for column in curves.T]
    return tuple((float(at), one.low, one.high) for at, one in zip(places, spread, strict=True))


def _held_out(callers: Numbers, per_second: Numbers) -> HeldOut | None:
    errors: list[float] = []
    for level in np.unique(callers):
        left = callers != level
        if len(np.unique(callers[left])) < 3:
            continue
        found = _parameters(callers[left], per_second[left])
        errors.extend(usl(callers[~left], *found) / per_second[~left] - 1)
    return held_out(errors)
