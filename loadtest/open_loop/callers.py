"""A closed loop: so many callers, each of whom sends its next event once its last one is done."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.arrivals.arrivals import MAX_ARRIVALS, Arrivals
from loadtest.open_loop.doors.door import Door
from loadtest.open_loop.outcomes import Outcomes
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.record_reader import RecordReader

POLL_SECONDS = 0.003
# A caller who was refused goes on after this: a door that is gone is not to be hammered.
REFUSED_SECONDS = 0.02
# How often those who wait in vain are looked for.
GIVE_UP_SECONDS = 0.1


class Callers:
    """Those of one driver. Tenants and work are the schedule's in turn; its times are not used.

    first, step: numbers of this driver's events, so that drivers never use the same. A caller whose handler leaves no
    record goes on answer_seconds and the handler's own time after the answer.
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
        self._longest_turn_ms = max((work_ms for _, work_ms in turns), default=0.0)
        self._ends_ns = 0
        self._reader = RecordReader(Path(spec.records), spec.run) if not spec.synchronous else None
        self._first, self._step = first, step
        # Numbers of events whose handler is not known to be done, and when each is given up (monotonic, ns).
        self._awaited: dict[int, int] = {}
        # Done before its answer was read: the handler can be that quick.
        self._early: set[int] = set()

    async def run(self, callers: int, ends_ns: int) -> None:
        """Until this moment of the monotonic clock."""
        self._ends_ns = ends_ns
        self._outcomes.on_end = self._ended
        for _ in range(callers):
            self._send()
        give_up_ns = 0
        while (now_ns := time.monotonic_ns()) < ends_ns:
            if self._reader is not None:
                self._take(self._reader.read())
                if now_ns >= give_up_ns:
                    give_up_ns = now_ns + int(GIVE_UP_SECONDS * 1e9)
                    self._give_up(now_ns)
            await asyncio.sleep(min(POLL_SECONDS if self._reader else 1.0, (ends_ns - now_ns) / 1e9))
        self._outcomes.on_end = None

    def _take(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number in self._awaited:
                del self._awaited[number]
                self._send()
            elif number % self._step == self._first:
                self._early.add(number)

    def _give_up(self, now_ns: int) -> None:
        # A handler that never tells does not hold its caller for ever; without a record its event has not started.
        for number in [one for one, until_ns in self._awaited.items() if until_ns <= now_ns]:
            del self._awaited[number]
            self._send()

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
                work = self._spec.work
                longest_ms = work.sleep_ms + work.burn_ms + self._longest_turn_ms
                bound_seconds = self._spec.answer_seconds + longest_ms / 1e3
                self._awaited[number] = time.monotonic_ns() + int(bound_seconds * 1e9)
