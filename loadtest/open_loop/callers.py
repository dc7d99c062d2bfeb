"""A closed loop: so many callers, each of whom sends its next event once its last one is done."""

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path

from loadtest.arrivals.arrivals import MAX_ARRIVALS, Arrivals
from loadtest.open_loop.doors.door import Door
from loadtest.open_loop.outcomes import Outcomes
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.record_reader import RecordReader

POLL_SECONDS = 0.003
# A caller who was refused goes on after this: a door that is gone is not to be hammered.
REFUSED_SECONDS = 0.02


class Callers:
    """Those of one driver. Tenants and work are the schedule's in turn; its times are not used.

    first, step: numbers of this driver's events, so that drivers never use the same.
    """

    def __init__(
        self,
        spec: LoadSpec,
        part: Arrivals,
        door: Door,
        outcomes: Outcomes,
        payload_of: Callable[[int, float], bytes],
        first: int,
        step: int,
    ) -> None:
        self._spec = spec
        self._door = door
        self._outcomes = outcomes
        self._payload_of = payload_of
        self._numbers = itertools.count(first, step)
        turns = list(zip(part.tenants.tolist(), part.work_ms.tolist(), strict=True))
        self._turns = itertools.cycle(turns or [(0, 0.0)])
        self._ends_ns = 0
        self._reader = RecordReader(Path(spec.records), spec.run) if not spec.synchronous else None
        # Numbers of events whose handler is not known to be done.
        self._awaited: set[int] = set()
        # Done before its answer was read: the handler can be that quick.
        self._early: set[int] = set()

    async def run(self, callers: int, ends_ns: int) -> None:
        """Until this moment of the monotonic clock."""
        self._ends_ns = ends_ns
        self._outcomes.on_end = self._ended
        for _ in range(callers):
            self._send()
        while (now_ns := time.monotonic_ns()) < ends_ns:
            if self._reader is not None:
                for number in self._reader.read():
                    if number in self._awaited:
                        self._awaited.discard(number)
                        self._send()
                    else:
                        self._early.add(number)
            await asyncio.sleep(min(POLL_SECONDS if self._reader else 1.0, (ends_ns - now_ns) / 1e9))
        self._outcomes.on_end = None

    def _send(self) -> None:
        number = next(self._numbers)
        if time.monotonic_ns() >= self._ends_ns or number >= MAX_ARRIVALS:
            return
        tenant, work_ms = next(self._turns)
        request = self._door.request(tenant, self._payload_of(number, work_ms))
        place = self._outcomes.add(number, tenant)
        if not self._door.send(place, tenant, request):
            self._outcomes.dropped(place)

    def _ended(self, place: int, accepted: bool) -> None:
        loop = asyncio.get_running_loop()
        if not accepted:
            loop.call_later(REFUSED_SECONDS, self._send)
        elif self._reader is None:
            loop.call_soon(self._send)
        else:
            number = self._outcomes.numbers[place]
            if number in self._early:
                self._early.discard(number)
                loop.call_soon(self._send)
            else:
                self._awaited.add(number)
