"""Monotone curves through scattered runs: where they cross a level. Pure."""

from collections.abc import Sequence

import numpy as np

from loadtest.plan.numerics import Numbers, never_falling


def crossing(rates: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """The rate at which a never-falling curve through the points first exceeds the level; None: it never does.

    The curve is the isotonic least-squares fit (pool adjacent violators) of the mean at each rate, straight between
    rates. A curve that begins above the level gives the lowest rate.
    """
    places, means, weights = _by_rate(rates, values)
    fitted = never_falling(means, weights)
    above = np.flatnonzero(fitted > level)
    if not len(above):
        return None
    first = int(above[0])
    if first == 0:
        return float(places[0])
    low, high = fitted[first - 1], fitted[first]
    return float(places[first - 1] + (places[first] - places[first - 1]) * (level - low) / (high - low))


def _by_rate(rates: Sequence[float], values: Sequence[float]) -> tuple[Numbers, list[float], list[float]]:
    at, told = np.asarray(rates, dtype=np.float64), np.asarray(values, dtype=np.float64)
    places = np.unique(at)
    groups = [told[at == place] for place in places]
    return places, [float(group.mean()) for group in groups], [float(len(group)) for group in groups]
