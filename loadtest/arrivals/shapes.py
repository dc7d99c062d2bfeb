"""Arrival processes. Each gives times in seconds, ascending, within [0, seconds); the same seed, the same times.

All but `constant` are Poisson processes whose rate varies with time (time-rescaling: unit-rate arrivals are mapped
through the inverse of the cumulative rate), so that bursts stay random inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.arrivals import MAX_ARRIVALS, TooMany

Times = NDArray[np.float64]
SHAPES = ("constant", "poisson", "bursts", "diurnal", "steps", "herd")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rate varies around its mean `per_second`.

    bursts: on for on_seconds at a rate that keeps the mean, silent for off_seconds. diurnal: a sine of
    `period_seconds` and `amplitude` (0 to 1 of the mean). steps: each of `levels`, multiples of the mean rate, for
    the same time. herd: a Poisson stream, and every `period_seconds` `herd_events` at once.
    """

    name: str = "poisson"
    per_second: float = 100.0
    on_seconds: float = 1.0
    off_seconds: float = 4.0
    amplitude: float = 0.8
    period_seconds: float = 10.0
    levels: Sequence[float] = field(default=(0.5, 1.0, 1.5))
    herd_events: int = 500

    def __post_init__(self) -> None:
        """ValueError: not within bounds."""
        if self.name not in SHAPES:
            raise ValueError(f"{self.name!r} is no shape of arrivals: {', '.join(SHAPES)}")
        for name in ("per_second", "on_seconds", "period_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.off_seconds < 0 or self.herd_events < 0:
            raise ValueError("off_seconds and herd_events are at least 0")
        if not 0 <= self.amplitude <= 1:
            raise ValueError(f"amplitude is a part of the mean rate, 0 to 1, not {self.amplitude}")
        if not self.levels or min(self.levels) < 0:
            raise ValueError("steps need levels of at least 0")


def times(shape: Shape, seconds: float, seed: str) -> Times:
    """Send times of this shape. ValueError: seconds not above 0; TooMany: beyond MAX_ARRIVALS."""
    if not seconds > 0:
        raise ValueError(f"a schedule lasts longer than 0 s, not {seconds}")
    if shape.per_second * seconds > MAX_ARRIVALS:
        raise TooMany(f"{shape.per_second * seconds:,.0f} arrivals; one schedule holds {MAX_ARRIVALS:,}")
    draw = np.random.default_rng(list(seed.encode()))
    match shape.name:
        case "constant":
            return np.arange(round(shape.per_second * seconds)) / shape.per_second
        case "bursts":
            cycle = shape.on_seconds + shape.off_seconds
            edges = np.arange(0.0, seconds + cycle, cycle)
            knots = np.sort(np.concatenate([edges, edges + shape.on_seconds]))
            high = cycle / shape.on_seconds
            return _varying(draw, shape.per_second, seconds, knots, [high, 0.0] * len(edges))
        case "diurnal":
            knots = np.linspace(0.0, seconds, _KNOTS + 1)
            middle = (knots[:-1] + knots[1:]) / 2
            relative = 1 + shape.amplitude * np.sin(2 * np.pi * middle / shape.period_seconds)
            return _varying(draw, shape.per_second, seconds, knots, relative)
        case "steps":
            knots = np.linspace(0.0, seconds, len(shape.levels) + 1)
            return _varying(draw, shape.per_second, seconds, knots, shape.levels)
        case "herd":
            stream = _varying(draw, shape.per_second, seconds, np.array([0.0, seconds]), [1.0])
            moments = np.arange(shape.period_seconds, seconds, shape.period_seconds)
            return np.sort(np.concatenate([stream, np.repeat(moments, shape.herd_events)]))
    return _varying(draw, shape.per_second, seconds, np.array([0.0, seconds]), [1.0])


# Enough that a sine's cumulative rate is smooth.
_KNOTS = 4_096


def _varying(
    draw: np.random.Generator, per_second: float, seconds: float, knots: Times, relative: Sequence[float] | Times
) -> Times:
    """Poisson arrivals whose rate is per_second * relative[i] between knots[i] and knots[i + 1]."""
    lengths = np.diff(np.minimum(knots, seconds))
    expected = np.concatenate([[0.0], np.cumsum(per_second * np.asarray(relative[: len(lengths)]) * lengths)])
    count = draw.poisson(expected[-1])
    places = np.sort(draw.uniform(0.0, expected[-1], count))
    # Flat stretches (silence) are no arrivals: `right` steps over them.
    at = np.searchsorted(expected, places, side="right") - 1
    rate = per_second * np.asarray(relative)[at]
    return np.asarray(knots[at] + (places - expected[at]) / rate)
