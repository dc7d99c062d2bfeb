"""Time, handed in: wall time for people and records, monotonic time for leases and time-outs."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two separate times; wall time may jump, monotonic time never goes back."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        ...

    def monotonic_ms(self) -> float:
        """Milliseconds since an arbitrary start; only differences mean something."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""
        return time.time_ns()

    def monotonic_ms(self) -> float:
        """Milliseconds of the machine's monotonic clock."""
        return time.monotonic_ns() / 1_000_000


class FakeClock:
    """A clock that a test moves by hand; both times start apart so that a mix-up shows."""

    def __init__(self, wall_ms: int = 1_800_000_000_000, monotonic_ms: float = 5_000.0) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = monotonic_ms

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch, as set."""
        return self._wall_ms

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, as set."""
        return self._wall_ms * 1_000_000

    def monotonic_ms(self) -> float:
        """Monotonic milliseconds, as advanced."""
        return self._monotonic_ms

    def advance(self, delta_ms: float) -> None:
        """Let time pass on both clocks."""
        if delta_ms < 0:
            raise ValueError("monotonic time does not go back; use jump_wall for the wall clock")
        self._monotonic_ms += delta_ms
        self._wall_ms += int(delta_ms)

    def jump_wall(self, delta_ms: int) -> None:
        """Set the wall clock forth or back; monotonic time stays."""
        self._wall_ms += delta_ms
