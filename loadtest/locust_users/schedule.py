"""Which kind of request each send of a schedule is. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import tenants


def kinds(users: Mapping[str, float], events: int, seed: str) -> NDArray[np.int32]:
    """For each event by its number the place of its user class among these, drawn by weight.

    Drawn rather than taken in turn: drivers take the events in turn, and would get one kind each.
    """
    parts = np.array(list(users.values()), dtype=np.float64)
    return tenants.draw(parts / parts.sum(), events, f"kinds {seed}")
