"""A wall clock that does not jump: ages of events must not depend on somebody setting the machine's clock."""

from services.shared.clock import Clock

# A correction of the machine's clock is followed at no more than 5 % of the time that passes.
MAX_SLEW = 0.05


class SteadyClock:
    """Follows the wall clock slowly; monotonic in between."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall_ms = float(clock.wall_ms())
        self._at_ms = clock.monotonic_ms()

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        at_ms = self._clock.monotonic_ms()
        elapsed_ms = at_ms - self._at_ms
        if elapsed_ms > 0:
            self._at_ms = at_ms
            self._wall_ms += elapsed_ms
            bound = elapsed_ms * MAX_SLEW
            self._wall_ms += max(-bound, min(bound, self._clock.wall_ms() - self._wall_ms))
        return int(self._wall_ms)
