"""From a run's traffic to its schedule, and which kind of request each of its sends is. Pure."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import arrivals, shapes, tenants
from loadtest.arrivals.arrivals import Arrivals
from loadtest.locust_users.settings import Settings


def make(settings: Settings, seconds: float) -> Arrivals:
    """The whole schedule, the same in every driver. ValueError: not within bounds."""
    at_seconds = shapes.times(settings.shape, seconds, settings.seed)
    drawn = tenants.draw(settings.weights(), len(at_seconds), settings.seed)
    return arrivals.make(seconds, at_seconds, drawn)


def kinds(users: Mapping[str, float], events: int, seed: str) -> NDArray[np.int32]:
    """For each event by its number the place of its user class among these, drawn by weight.

    Drawn rather than taken in turn: drivers take the events in turn, and would get one kind each.
    """
    parts = np.array(list(users.values()), dtype=np.float64)
    return tenants.draw(parts / parts.sum(), events, f"kinds {seed}")
