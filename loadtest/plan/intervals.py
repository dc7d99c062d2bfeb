"""Intervals of what was estimated. Pure: draws of a bootstrap are seeded, the same data give the same interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.plan.numerics import t_quantile

CONFIDENCE = 0.95
# Fewer repeats give an interval that says nothing.
MIN_REPEATS = 5
RESAMPLES = 400
_SEED = 20_081


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval at CONFIDENCE, in the unit of what it belongs to."""

    low: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether any value lies in both."""
        return self.low <= other.high and other.low <= self.high

    def holds(self, value: float) -> bool:
        """Whether the value lies within."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Relative errors of predictions of what the fit had not seen (leave one out), 0.1 is 10 %."""

    median: float
    largest: float
    count: int


def t_interval(values: Sequence[float]) -> Interval | None:
    """Student's t-interval of the mean of independent repeats; None: fewer than MIN_REPEATS."""
    if len(values) < MIN_REPEATS:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * error
    return Interval(mean - reach, mean + reach)


def bootstrap(count: int, estimate: Callable[[NDArray[np.int64]], float | None]) -> Interval | None:
    """Percentile bootstrap (Efron 1979): `estimate` is given the places of `count` draws with replacement.

    None: fewer than MIN_REPEATS things to draw from, or most resamples tell no value (estimate gave None).
    """
    if count < MIN_REPEATS:
        return None
    draw = np.random.default_rng(_SEED)
    found = [one for _ in range(RESAMPLES) if (one := estimate(draw.integers(0, count, count))) is not None]
    if len(found) < RESAMPLES / 2:
        return None
    return percentile(found)


def percentile(values: Sequence[float]) -> Interval:
    """The middle CONFIDENCE part of these resampled values."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def held_out(errors: Sequence[float]) -> HeldOut | None:
    """The summary of these relative errors, signs dropped; None: there are none."""
    if not errors:
        return None
    sizes = np.abs(errors)
    return HeldOut(float(np.median(sizes)), float(np.max(sizes)), len(sizes))
