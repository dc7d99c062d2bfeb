"""Arrival processes. Each gives times in seconds, ascending, within [0, seconds); the same seed, the same times.

All but `constant` are Poisson processes whose rate varies with time (time-rescaling: unit-rate arrivals are mapped
through the inverse of the cumulative rate), so that bursts stay random inside. Periods begin where the warm-up ends,
and rates are scaled so that the counted part behind it has the mean that was told, also where its last period is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.arrivals import MAX_ARRIVALS, TooMany

Times = NDArray[np.float64]
SHAPES = ("constant", "poisson", "bursts", "diurnal", "steps", "herd")
# Periods of one schedule.
MAX_PERIODS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How the rate varies around its mean `per_second`.

    bursts: on for on_seconds, silent for off_seconds. diurnal: a sine of `period_seconds` and `amplitude` (0 to 1 of
    the mean). steps: each of `levels` for the same time, as they are to one another. herd: a Poisson stream of the mean
    rate, and on top of it, in the middle of every `period_seconds`, `herd_events` at once.
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
        if not self.levels or min(self.levels) < 0 or not max(self.levels) > 0:
            raise ValueError("steps need levels of at least 0, one of them above")
        if len(self.levels) > MAX_PERIODS:
            raise ValueError(f"{len(self.levels):,} levels: at most {MAX_PERIODS:,}")


def check(shape: Shape, seconds: float, warm_up_seconds: float = 0.0) -> None:
    """ValueError: the counted part of such a schedule would hold no whole period; TooMany: beyond MAX_ARRIVALS."""
    counted_seconds = seconds - warm_up_seconds
    if not counted_seconds > 0 or warm_up_seconds < 0:
        raise ValueError(f"a schedule lasts longer than 0 s and than its warm-up, not {seconds:g}")
    period_seconds = _period_seconds(shape)
    if period_seconds > counted_seconds:
        raise ValueError(
            f"{shape.name} with a period of {period_seconds:g} s does not fit into the {counted_seconds:g} s that "
            "count: more seconds or a shorter period"
        )
    events = shape.per_second * seconds
    if period_seconds:
        if (periods := seconds / period_seconds) > MAX_PERIODS:
            raise TooMany(f"{periods:,.0f} periods; one schedule holds {MAX_PERIODS:,}: fewer seconds or longer ones")
        if shape.name == "herd":
            events += shape.herd_events * (periods + 1)
    if events > MAX_ARRIVALS:
        raise TooMany(f"{events:,.0f} arrivals; one schedule holds {MAX_ARRIVALS:,}: fewer seconds or a lower rate")


def times(shape: Shape, seconds: float, seed: str, warm_up_seconds: float = 0.0) -> Times:
    """Send times of this shape; warm_up_seconds: the part at the begin that does not count. ValueError: see check."""
    check(shape, seconds, warm_up_seconds)
    draw = np.random.default_rng(list(seed.encode()))
    edges = np.array([0.0, seconds])
    match shape.name:
        case "constant":
            return np.arange(round(shape.per_second * seconds)) / shape.per_second
        case "bursts":
            begins = _moments(0.0, shape.on_seconds + shape.off_seconds, seconds, warm_up_seconds)
            knots = np.sort(np.concatenate([begins, begins + shape.on_seconds]))
            return _varying(draw, shape, seconds, warm_up_seconds, knots, np.tile([1.0, 0.0], len(begins))[:-1])
        case "diurnal":
            knots = np.union1d(np.linspace(0.0, seconds, _KNOTS + 1), [warm_up_seconds])
            middle = (knots[:-1] + knots[1:]) / 2 - warm_up_seconds
            relative = 1 + shape.amplitude * np.sin(2 * np.pi * middle / shape.period_seconds)
            return _varying(draw, shape, seconds, warm_up_seconds, knots, relative)
        case "steps":
            knots = np.linspace(warm_up_seconds, seconds, len(shape.levels) + 1)
            relative = np.array(shape.levels, dtype=np.float64)
            if warm_up_seconds:
                # Before the first step, the mean.
                knots, relative = np.append(0.0, knots), np.append(relative.mean(), relative)
            return _varying(draw, shape, seconds, warm_up_seconds, knots, relative)
        case "herd":
            stream = _varying(draw, shape, seconds, warm_up_seconds, edges, np.ones(1))
            moments = _moments(shape.period_seconds / 2, shape.period_seconds, seconds, warm_up_seconds)
            herds = moments[(moments >= 0) & (moments < seconds)]
            return np.sort(np.concatenate([stream, np.repeat(herds, shape.herd_events)]))
    return _varying(draw, shape, seconds, warm_up_seconds, edges, np.ones(1))


# Enough that a sine's cumulative rate is smooth.
_KNOTS = 4_096


def _period_seconds(shape: Shape) -> float:
    """0: it has none that must fit."""
    if shape.name == "bursts":
        return shape.on_seconds + shape.off_seconds
    return shape.period_seconds if shape.name in ("diurnal", "herd") else 0.0


def _moments(offset: float, period: float, seconds: float, warm_up_seconds: float) -> Times:
    """offset behind the begin of each period, from one that is under way at 0 to one behind the end."""
    before, after = np.ceil(warm_up_seconds / period), np.ceil((seconds - warm_up_seconds) / period)
    return np.asarray(warm_up_seconds + offset + period * np.arange(-before, after + 1))


def _varying(
    draw: np.random.Generator, shape: Shape, seconds: float, warm_up_seconds: float, knots: Times, relative: Times
) -> Times:
    """Poisson arrivals whose rate between two knots is in proportion to relative[i]; the counted part has the mean."""
    counted = np.diff(np.clip(knots, warm_up_seconds, seconds))
    rates = relative * (shape.per_second * (seconds - warm_up_seconds) / float((relative * counted).sum()))
    knots = np.clip(knots, 0.0, seconds)
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(knots))])
    count = draw.poisson(expected[-1])
    places = np.sort(draw.uniform(0.0, expected[-1], count))
    # Flat stretches (silence) are no arrivals: `right` steps over them.
    at = np.searchsorted(expected, places, side="right") - 1
    return np.asarray(knots[at] + (places - expected[at]) / rates[at])
