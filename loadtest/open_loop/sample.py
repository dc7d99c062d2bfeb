"""Which events of a schedule are asked about once they are over. Seeded; pure."""

import numpy as np
from numpy.typing import NDArray

# However long a run is.
MAX_SAMPLED = 2_000


def draw(first: int, events: int, wanted: float, seed: str) -> NDArray[np.int64]:
    """Numbers of about `wanted` of the events from `first` on, ascending: one drawn of each of as many equal stretches.

    By the plan and not by the answers: what waited long is in it as often as it was sent. At most MAX_SAMPLED.
    """
    count = min(events, MAX_SAMPLED, int(np.ceil(wanted)))
    if count < 1:
        return np.empty(0, dtype=np.int64)
    edges = np.arange(count + 1, dtype=np.int64) * events // count
    randomness = np.random.default_rng(list(f"sample {seed}".encode()))
    return first + edges[:-1] + (randomness.random(count) * np.diff(edges)).astype(np.int64)
