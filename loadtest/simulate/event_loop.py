"""Virtual time: what is due, in the order of time; what is due at one moment comes in the order of its making."""

import heapq
from collections.abc import Callable
from typing import Any

# Due actions that one simulation may have at a time.
MAX_DUE = 5_000_000


class EventLoop:
    """Runs actions at their virtual time. Units are the caller's; nothing waits and nothing depends on a real clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._made = 0

    def at(self, when: float, action: Callable[[Any], None], argument: Any = None) -> None:
        """Call `action(argument)` at that time. ValueError: it is over. OverflowError: MAX_DUE are due already."""
        if when < self.now:
            raise ValueError(f"{when} is over: it is {self.now}")
        if len(self._due) >= MAX_DUE:
            raise OverflowError(f"{MAX_DUE:,} actions are due: this simulation does not end")
        self._made += 1
        heapq.heappush(self._due, (when, self._made, action, argument))

    def every(self, period: float, action: Callable[[Any], None], argument: Any = None, first: float = 0.0) -> None:
        """Call it again and again, at first, first + period, ... ValueError: the period is not above 0."""
        if not period > 0:
            raise ValueError(f"a period is above 0, not {period}")

        def again(number: int) -> None:
            action(argument)
            # Multiplied, not added up: rounding would drift.
            self.at(first + (number + 1) * period, again, number + 1)

        self.at(first, again, 0)

    def run(self, until: float) -> None:
        """Everything that is due before `until`; it is `until` then."""
        due, pop = self._due, heapq.heappop
        while due and due[0][0] < until:
            self.now, _, action, argument = pop(due)
            action(argument)
        self.now = until
