"""Sends one driver's part of a schedule: a greenlet for each send at its time, whatever became of those before."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from gevent.event import Event
from gevent.pool import Group

from loadtest.arrivals.arrivals import Arrivals
from loadtest.locust_users import rows
from loadtest.locust_users.tally import Tally
from loadtest.open_loop.validity import LATE_MS

# send(user class, tenant, number of the event, its work in ms, its time in time.perf_counter's seconds)
Send = Callable[[str, int, int, float, float], None]
# So many sends may leave behind their time in one go before greenlets get their turn.
_BEHIND_SENDS = 20
_DROPPED = "as many requests as one driver may have were under way"


class OpenLoop:
    """One part of one run; `run` in a greenlet of its own."""

    def __init__(
        self, part: Arrivals, users: Sequence[str], send: Send, in_flight: int, tally: Tally, stats: Any
    ) -> None:
        """`users`: of every event of the part its user class."""
        self._part = part
        self._users = users
        self._send = send
        self._in_flight = in_flight
        self._tally = tally
        self._stats = stats
        self._under_way = Group()
        self._is_cut = Event()

    def run(self) -> None:
        """Send all of it, or until `cut`; returns when the last one was started."""
        began = time.perf_counter()
        behind = 0
        part = self._part
        for place in range(len(part)):
            at = began + float(part.at_seconds[place])
            ahead_seconds = at - time.perf_counter()
            behind = 0 if ahead_seconds > 0 else behind + 1
            if (ahead_seconds > 0 or behind % _BEHIND_SENDS == 0) and self._is_cut.wait(max(0.0, ahead_seconds)):
                break
            self._tally.planned += 1
            if len(self._under_way) >= self._in_flight:
                # Late as well when its turn came late: then it was this driver that stood still.
                self._note_late((time.perf_counter() - at) * 1_000)
                self._tally.dropped += 1
                rows.note_failure(self._stats, rows.OPEN, rows.DROPPED, _DROPPED)
                continue
            tenant, number = int(part.tenants[place]), int(part.numbers[place])
            self._under_way.spawn(self._one, self._users[place], tenant, number, float(part.work_ms[place]), at)

    def cut(self) -> None:
        """End early: what is due later is not sent, nor counted as planned."""
        self._is_cut.set()

    def finish(self, until: float) -> None:
        """Wait for the answers until then (monotonic); the sends that are left get none, and fail."""
        self._under_way.join(timeout=max(0.0, until - time.monotonic()))
        self._under_way.kill()

    def _note_late(self, late_ms: float) -> None:
        if late_ms > LATE_MS:
            self._tally.late += 1
            rows.note(self._stats, rows.OPEN, rows.LATE, late_ms)

    def _one(self, user: str, tenant: int, number: int, work_ms: float, at: float) -> None:
        self._tally.sent += 1
        self._note_late((time.perf_counter() - at) * 1_000)
        self._send(user, tenant, number, work_ms, at)
