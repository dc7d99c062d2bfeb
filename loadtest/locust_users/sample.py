"""Which accepted events are followed to their end. Pure; time and randomness are handed in."""

from collections.abc import Callable


class Sample:
    """Takes about per_second of the events that one driver is told of.

    expected_per_second: how many it will be told of, known in an open loop: each is then drawn, so that bursts weigh as
    much as they have events. 0, in a closed loop: the first one of every 1 / per_second is taken.
    """

    def __init__(self, per_second: float, expected_per_second: float, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._part = min(1.0, per_second / expected_per_second) if expected_per_second else 0.0
        self._gap_seconds = 1 / per_second if per_second else 0.0
        self._is_drawn = expected_per_second > 0
        self._is_off = not per_second
        self._next_at = 0.0

    def takes(self, now_seconds: float) -> bool:
        """Whether this one is followed; now_seconds: of a clock that never goes back."""
        if self._is_off:
            return False
        if self._is_drawn:
            return self._draw() < self._part
        if now_seconds < self._next_at:
            return False
        self._next_at = max(now_seconds, self._next_at + self._gap_seconds)
        return True
