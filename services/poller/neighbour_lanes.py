"""Calls to AWS neighbours side by side: a destination that answers late, or never, leaves threads for all others."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from services.shared.aws import AwsClients
from services.shared.errors import EvenflowError, Reason

# Of the threads one destination may hold so many, and this many where there are few threads.
SHARE_OF_THREADS = 4
MIN_CALLS_OF_DESTINATION = 4
# Calls that wait for their destination's turn; beyond it a call is refused and may be repeated.
MAX_WAITING_CALLS = 10_000

Work = Callable[[AwsClients], Any]
Told = Callable[[Any], None]


class Calls(Protocol):
    """services.shared.aws.AwsCalls."""

    def start(self, work: Work, done: Told) -> None:
        """Run it on a thread; `done` hears on the loop, later."""
        ...


class _Lane:
    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[tuple[Work, Told]] = deque()


class NeighbourLanes:
    """One lane for each destination that has calls; a quarter of the threads at most serve one of them."""

    def __init__(self, calls: Calls, threads: int) -> None:
        self._calls = calls
        self.calls_of_destination = max(MIN_CALLS_OF_DESTINATION, threads // SHARE_OF_THREADS)
        self._lanes: dict[str, _Lane] = {}
        self._waiting_calls = 0

    def start(self, arn: str, work: Work, told: Told) -> None:
        """As AwsCalls.start, when it is the destination's turn; in the order of asking."""
        lane = self._lanes.setdefault(arn, _Lane())
        if lane.running < self.calls_of_destination:
            self._begin(arn, lane, work, told)
        elif self._waiting_calls < MAX_WAITING_CALLS:
            self._waiting_calls += 1
            lane.waiting.append((work, told))
        else:
            text = f"{MAX_WAITING_CALLS} calls to AWS wait already: try again"
            asyncio.get_running_loop().call_soon(told, EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text))

    def _begin(self, arn: str, lane: _Lane, work: Work, told: Told) -> None:
        lane.running += 1

        def done(answer: Any) -> None:
            lane.running -= 1
            if lane.waiting:
                self._waiting_calls -= 1
                self._begin(arn, lane, *lane.waiting.popleft())
            elif not lane.running:
                del self._lanes[arn]
            told(answer)

        self._calls.start(work, done)
