"""Follows a sample of accepted events to their end over GetEvent, and notes how long they dwelt.

The times are the fleet's own (accepted, first handler start, end), so how often it is asked does not blur them.
"""

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gevent
from gevent.event import Event

from loadtest.locust_users import rows
from loadtest.locust_users.answers import NotTaken
from loadtest.locust_users.grpc_door import GrpcDoor
from loadtest.locust_users.sample import Sample
from loadtest.locust_users.tally import Tally

# Events under watch at once in one driver; one beyond is counted and not followed.
MAX_FOLLOWED = 1_000
# First asked so long after its accept, then twice as long after each answer, up to the second figure.
_FIRST_SECONDS = 0.02
_MAX_WAIT_SECONDS = 1.0
_END_POLL_SECONDS = 0.02


@dataclass(slots=True)
class _Followed:
    request_id: bytes
    key: str
    wait_seconds: float = _FIRST_SECONDS
    is_started: bool = False


class Follower:
    """One greenlet that asks for the events under watch in turn."""

    def __init__(self, door: GrpcDoor, stats: Any, sample: Sample, tally: Tally) -> None:
        self._door = door
        self._stats = stats
        self._sample = sample
        self._tally = tally
        # When to ask, a number that tells equal times apart, and whom.
        self._due: list[tuple[float, int, _Followed]] = []
        self._asked = 0
        self._is_closed = False
        self._wake = Event()
        self._greenlet = gevent.spawn(self._run)

    def offer(self, request_ids: Sequence[bytes], key: str) -> None:
        """Events that were accepted now; some of them are taken."""
        if self._is_closed:
            return
        now = time.monotonic()
        for request_id in request_ids:
            if not self._sample.takes(now):
                continue
            if len(self._due) >= MAX_FOLLOWED:
                self._tally.unfollowed += 1
                continue
            self._tally.followed += 1
            self._put(_Followed(request_id, key), now)

    def finish(self, until: float) -> None:
        """Take no more, and wait for those under watch until then (monotonic)."""
        self._is_closed = True
        while self._tally.settled < self._tally.followed and time.monotonic() < until and not self._greenlet.dead:
            gevent.sleep(_END_POLL_SECONDS)
        self._greenlet.kill()

    def _put(self, one: _Followed, now: float) -> None:
        self._asked += 1
        heapq.heappush(self._due, (now + one.wait_seconds, self._asked, one))
        self._wake.set()

    def _run(self) -> None:
        while True:
            now = time.monotonic()
            if self._due and self._due[0][0] <= now:
                _, _, one = heapq.heappop(self._due)
                if not self._ask(one):
                    one.wait_seconds = min(2 * one.wait_seconds, _MAX_WAIT_SECONDS)
                    self._put(one, time.monotonic())
                continue
            self._wake.clear()
            self._wake.wait(self._due[0][0] - now if self._due else None)

    def _ask(self, one: _Followed) -> bool:
        """Whether it has ended."""
        try:
            told = self._door.get_event(one.request_id, one.key)
        except NotTaken:
            return False
        if told.first_started_at_ms and not one.is_started:
            one.is_started = True
            rows.note(self._stats, rows.DWELL, rows.TO_START, told.first_started_at_ms - told.accepted_at_ms)
        if not told.finished_at_ms:
            return False
        rows.note(self._stats, rows.DWELL, rows.TO_SETTLED, told.finished_at_ms - told.accepted_at_ms)
        self._tally.settled += 1
        return True
