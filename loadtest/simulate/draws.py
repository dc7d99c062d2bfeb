"""Random numbers of a simulation, drawn in blocks: the same seed and purpose, the same numbers."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 8_192
SERVICES = ("exponential", "fixed", "lognormal")
Block = Callable[[np.random.Generator], NDArray[np.float64]]


def gaps(seed: str, per_time: float) -> Callable[[], float]:
    """Time between two arrivals of a Poisson stream."""
    return _stream(f"gaps {seed}", lambda draw: draw.exponential(1 / per_time, BLOCK))


def service_times(seed: str, service: str, sigma: float) -> Callable[[], float]:
    """Service times of mean 1; sigma: of lognormal ones. ValueError: no such distribution."""
    match service:
        case "exponential":
            return _stream(f"service {seed}", lambda draw: draw.exponential(1.0, BLOCK))
        case "fixed":
            return lambda: 1.0
        case "lognormal":
            # exp(mu + sigma^2 / 2) is the mean.
            return _stream(f"service {seed}", lambda draw: draw.lognormal(-sigma * sigma / 2, sigma, BLOCK))
    raise ValueError(f"{service!r} is no distribution of service times: {', '.join(SERVICES)}")


def tenants(seed: str, parts: NDArray[np.float64]) -> Callable[[], int]:
    """Whose event comes next, drawn by weight."""
    reached = np.cumsum(parts)
    last = len(parts) - 1
    if not last:
        return lambda: 0

    def block(draw: np.random.Generator) -> NDArray[np.float64]:
        found = np.searchsorted(reached, draw.random(BLOCK) * reached[-1], side="right")
        return np.asarray(np.minimum(found, last), dtype=np.float64)

    draw_next = _stream(f"tenants {seed}", block)
    return lambda: int(draw_next())


def _stream(seed: str, block: Block) -> Callable[[], float]:
    draw = np.random.default_rng(list(seed.encode()))

    def numbers() -> Iterator[float]:
        while True:
            yield from block(draw).tolist()

    return numbers().__next__
