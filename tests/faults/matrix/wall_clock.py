"""The wall clock of a fleet, set forth and back by a test: services add what a file says. Monotonic time stays."""

import os
from pathlib import Path

VARIABLE = "EVENFLOW_TEST_WALL_SHIFT"


def set_shift(path: Path, seconds: float) -> None:
    """From now on."""
    fresh = path.with_suffix(".fresh")
    fresh.write_text(str(seconds))
    fresh.replace(path)


def install() -> None:
    """In a service's process: its clock's wall time is off by what the file says now."""
    if path := os.environ.get(VARIABLE):
        from services.shared.clock import SystemClock

        true_ns = SystemClock.wall_ns

        def wall_ns(self: SystemClock) -> int:
            try:
                return true_ns(self) + int(float(Path(path).read_text()) * 1e9)
            except FileNotFoundError:
                return true_ns(self)

        def wall_ms(self: SystemClock) -> int:
            return wall_ns(self) // 1_000_000

        SystemClock.wall_ns, SystemClock.wall_ms = wall_ns, wall_ms  # type: ignore[method-assign]
