"""A schedule: the intended send time, the tenant and the work of each event, in the order of time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What one run may hold in memory: 40 bytes an event, counted generously.
MAX_ARRIVALS = 20_000_000


class TooMany(ValueError):
    """A schedule beyond MAX_ARRIVALS; the message says by how much."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """One schedule of `seconds`. All arrays have one entry an event.

    at_seconds: float64, ascending, 0 <= at < seconds; tenants: int32, index of the sender; work_ms: float32, how long
    its handler is to stay busy, 0 for a no-op. An event's number is its place in the whole schedule: int64, so that
    parts of a schedule number their events alike.
    """

    seconds: float
    at_seconds: NDArray[np.float64]
    tenants: NDArray[np.int32]
    work_ms: NDArray[np.float32]
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        """Events."""
        return len(self.at_seconds)

    @property
    def per_second(self) -> float:
        """Mean rate, events a second."""
        return len(self) / self.seconds

    def part(self, index: int, count: int) -> "Arrivals":
        """What the driver `index` of `count` (0-based) sends: every count-th event, so that all have the same shape.

        ValueError: no such driver.
        """
        if not 0 <= index < count:
            raise ValueError(f"driver {index} of {count}: counted from 0")
        mine = slice(index, None, count)
        return Arrivals(self.seconds, self.at_seconds[mine], self.tenants[mine], self.work_ms[mine], self.numbers[mine])


def make(
    seconds: float,
    at_seconds: NDArray[np.float64],
    tenants: NDArray[np.int32] | None = None,
    work_ms: NDArray[np.float32] | float = 0.0,
) -> Arrivals:
    """Arrivals of these times (sorted here); without tenants all are of tenant 0. TooMany: beyond MAX_ARRIVALS."""
    if len(at_seconds) > MAX_ARRIVALS:
        raise TooMany(
            f"{len(at_seconds):,} arrivals; one schedule holds {MAX_ARRIVALS:,}: fewer seconds or a lower rate"
        )
    order = np.argsort(at_seconds, kind="stable")
    if tenants is None:
        tenants = np.zeros(len(at_seconds), dtype=np.int32)
    if isinstance(work_ms, float | int):
        work_ms = np.full(len(at_seconds), work_ms, dtype=np.float32)
    numbers = np.arange(len(at_seconds), dtype=np.int64)
    return Arrivals(seconds, at_seconds[order], tenants[order], work_ms[order], numbers)
