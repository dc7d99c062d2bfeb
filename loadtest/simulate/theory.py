"""What theory says: load of the fullest shard, queues and their response time. Pure."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

Parts = NDArray[np.float64]

# Levels above the mean to which fluid limits are worked out; beyond it they are 0 for any number of shards.
LEVELS_ABOVE = 60
STEPS_A_EVENT = 8


def random_max_asymptotic(shards: int, mean: float) -> float:
    """m/n + sqrt(2 (m/n) ln n), for m events at random into n shards, m >> n ln n (Raab and Steger 1998)."""
    return mean + math.sqrt(2 * mean * math.log(shards))


def random_max(shards: int, mean: float) -> float:
    """The expected maximum of so many binomial depths, taken as independent: exact but for their sum being fixed."""
    events = round(shards * mean)
    deepest = min(events, int(mean + 12 * math.sqrt(mean)) + LEVELS_ABOVE)
    below = bdtr(np.arange(deepest), events, 1 / shards)
    return float(np.sum(1 - below**shards))


def best_of_growth(shards: int, choices: int) -> float:
    """ln ln n / ln d: max - mean is this and a constant, whatever the events (Berenbrink et al. 2006)."""
    return math.log(math.log(shards)) / math.log(choices)


def best_of_max(shards: int, mean: float, choices: int) -> float:
    """The expected maximum by the fluid limit ds_i/dt = s_(i-1)^d - s_i^d (Mitzenmacher), s_i the part of shards with
    at least i events, and n shards independent at its end."""
    top = math.ceil(mean) + LEVELS_ABOVE
    part = np.zeros(top + 1)
    part[0] = 1.0
    steps = max(1, round(mean * STEPS_A_EVENT))
    size = mean / steps

    def slope(at: Parts) -> Parts:
        powers = at**choices
        found = np.zeros_like(at)
        found[1:] = powers[:-1] - powers[1:]
        return found

    for _ in range(steps):
        first = slope(part)
        second = slope(part + size / 2 * first)
        third = slope(part + size / 2 * second)
        part = part + size / 6 * (first + 2 * second + 2 * third + slope(part + size * third))
    part = np.clip(part, 0.0, 1.0)
    return float(np.sum(1 - (1 - part[1:]) ** shards))


def queue_tail(load: float, choices: int, deepest: int) -> Sequence[float]:
    """P(depth >= i) for i = 0 to deepest: load^((d^i - 1) / (d - 1)), with many shards (Mitzenmacher)."""
    if choices == 1:
        return [load**i for i in range(deepest + 1)]
    return [load ** ((choices**i - 1) / (choices - 1)) for i in range(deepest + 1)]


def mean_response(load: float, choices: int) -> float:
    """Service times from arrival to end: the mean depth over the load (Little). 1 / (1 - load) for one choice."""
    if choices == 1:
        return 1 / (1 - load)
    # The tail is below any double at this depth.
    return sum(queue_tail(load, choices, 40)[1:]) / load


def mean_response_general(load: float, service_variance: float) -> float:
    """Of one choice with service of mean 1 and this variance (Pollaczek and Khinchine)."""
    return 1 + load * (1 + service_variance) / (2 * (1 - load))
