"""How fast a function may get further sandboxes: AWS's scaling rate, so many in ten seconds. Pure.

The rate is a function's over the whole fleet, and each host has an equal part of it: no host need ask another.
"""

from collections import OrderedDict

from services.runtime.functions import FunctionKey

WINDOW_MS = 10_000.0
# Functions that are remembered; who is forgotten has started nothing for longer than all these, and begins anew.
MAX_FUNCTIONS = 4_096


class ScalingRate:
    """A bucket for each function that fills over WINDOW_MS: at most its size at once, and no more for long."""

    def __init__(self, starts_per_window: int) -> None:
        """starts_per_window: of one function in the whole fleet."""
        self._fleet_starts = starts_per_window
        self._starts = float(starts_per_window)
        # What is left, and when that was so; the one that was looked at longest ago first.
        self._left: OrderedDict[FunctionKey, tuple[float, float]] = OrderedDict()

    def set_hosts(self, hosts: int) -> None:
        """So many hosts share the rate; a part is one start at least."""
        self._starts = max(1.0, self._fleet_starts / max(1, hosts))

    def take(self, key: FunctionKey, now_ms: float) -> bool:
        """Count one more start; False: it would be one too many now."""
        left = self._left_of(key, now_ms)
        may_start = left >= 1.0
        self._left[key] = (left - 1.0 if may_start else left), now_ms
        self._left.move_to_end(key)
        if len(self._left) > MAX_FUNCTIONS:
            self._left.popitem(last=False)
        return may_start

    def give_back(self, key: FunctionKey) -> None:
        """What was counted last did not start."""
        if key in self._left:
            left, at_ms = self._left[key]
            self._left[key] = left + 1.0, at_ms

    def _left_of(self, key: FunctionKey, now_ms: float) -> float:
        known = self._left.get(key)
        if known is None:
            return self._starts
        left, at_ms = known
        return min(self._starts, left + (now_ms - at_ms) * self._starts / WINDOW_MS)
