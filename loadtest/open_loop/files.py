"""The files that a run and its drivers share, by name, and schedules in them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.arrivals import Arrivals

SPEC = "spec.json"


def schedule(index: int) -> str:
    """What the driver is to send."""
    return f"schedule-{index}.npz"


def ready(index: int) -> str:
    """There once the driver could begin."""
    return f"ready-{index}"


def part(index: int) -> str:
    """What the driver found."""
    return f"part-{index}.npz"


def log(index: int) -> str:
    """What the driver printed."""
    return f"driver-{index}.log"


_ARRAYS = ("at_seconds", "tenants", "work_ms", "numbers")


def save_schedule(told: Arrivals, sampled: NDArray[np.int64], path: Path) -> None:
    """Write it. sampled: numbers of the events whose end will be asked for."""
    arrays = {name: getattr(told, name) for name in _ARRAYS}
    np.savez(path, seconds=np.array(told.seconds), sampled=sampled, **arrays)


def load_schedule(path: Path) -> tuple[Arrivals, NDArray[np.int64]]:
    """Read what save_schedule wrote. OSError: not there."""
    with np.load(path) as found:
        return Arrivals(float(found["seconds"]), *(found[name] for name in _ARRAYS)), found["sampled"]
