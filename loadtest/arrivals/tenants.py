"""How traffic is spread over tenants: weights by skew, and whose event comes next. Seeded."""

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
SKEWS = ("uniform", "zipf", "lognormal")
# The top 18.6 % of tenants hold 99.6 % of the traffic, as in the Azure 2019 trace (design: capacity).
SIGMA = 3.55
ZIPF_EXPONENT = 1.1
MAX_TENANTS = 1_000_000


def weights(skew: str, tenants: int, seed: str, sigma: float = SIGMA, exponent: float = ZIPF_EXPONENT) -> Weights:
    """Each tenant's part of the traffic, which sum up to 1; zipf: tenant 0 is the hottest. ValueError: no such skew."""
    if not 1 <= tenants <= MAX_TENANTS:
        raise ValueError(f"{tenants} tenants: 1 to {MAX_TENANTS:,}")
    match skew:
        case "uniform":
            found = np.ones(tenants)
        case "zipf":
            found = np.arange(1, tenants + 1, dtype=np.float64) ** -exponent
        case "lognormal":
            found = np.random.default_rng(list(f"weights {seed}".encode())).lognormal(0.0, sigma, tenants)
        case _:
            raise ValueError(f"{skew!r} is no skew of tenants: {', '.join(SKEWS)}")
    return np.asarray(found / found.sum())


def with_noisy(quiet: Weights, noisy_part: float) -> Weights:
    """The same tenants and one more, the last, that has `noisy_part` (0 to 1) of all traffic."""
    if not 0 <= noisy_part < 1:
        raise ValueError(f"the noisy tenant's part is 0 to below 1, not {noisy_part}")
    return np.append(quiet * (1 - noisy_part), noisy_part)


def draw(parts: Weights, events: int, seed: str) -> NDArray[np.int32]:
    """The tenant of each of so many events, drawn by weight."""
    randomness = np.random.default_rng(list(f"tenants {seed}".encode()))
    reached = np.cumsum(parts)
    found = np.searchsorted(reached, randomness.random(events) * reached[-1], side="right")
    return np.asarray(np.minimum(found, len(parts) - 1), dtype=np.int32)
