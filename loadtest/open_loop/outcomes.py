"""What became of each event that one driver sends: written by the doors while they run, saved as arrays at the end."""

import asyncio
import json
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# FAILED: accepted all the same; its result is a function error that its event did not ask for.
UNSENT, UNDER_WAY, ACCEPTED, FAILED, DROPPED, UNANSWERED, FIRST_REASON = range(7)
# Reasons of refusals beyond these are counted as one.
MAX_REASONS = 200
OTHER = "other"
# The reason of an event whose connection was not to be had or broke before its answer.
CONNECTION = "connection"


def is_accepted(codes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Of each code, whether the door took the event."""
    return np.asarray((codes == ACCEPTED) | (codes == FAILED))


@dataclass(frozen=True, slots=True)
class Part:
    """What one driver found, one entry an event that it planned; times in ns since the schedule's begin, 0: none.

    sent_ns: of a dropped one, when it was to leave. answered_ns: of an unanswered one, when it was given up. codes: see
    above, from FIRST_REASON on places in `reasons`. ids: request ids of those of the sample that were accepted, by the
    event's number. cpu: the process's CPU time over the counted part, 0 to 1 of a core (its threads may exceed 1).
    """

    numbers: NDArray[np.int64]
    tenants: NDArray[np.int32]
    due_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    answered_ns: NDArray[np.int64]
    codes: NDArray[np.int32]
    reasons: Sequence[str]
    ids: Mapping[int, str]
    cpu: float


class Outcomes:
    """Of one driver. `place`: of an event among this driver's, 0-based.

    Which events are in the sample, to be remembered with their request ids, is known when they are to be sent: chosen
    by their answers, a door that stands still would choose few of those that waited for it. sampled_per_second: only
    of events that were not planned.
    """

    def __init__(self, sampled_per_second: float = 0.0, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.begin_ns = 0
        self.numbers: Sequence[int] = array("q")
        self.tenants: Sequence[int] = array("i")
        self.due_ns: Sequence[int] = array("q")
        self.sent_ns = array("q")
        self.answered_ns = array("q")
        self.codes = array("i")
        self.ids: dict[int, str] = {}
        self.under_way = 0
        # Told the place of each event that is answered, refused or given up, and whether it was accepted.
        self.on_end: Callable[[int, bool], None] | None = None
        self._reasons: dict[str, int] = {}
        self._all_ended: asyncio.Event | None = None
        self._clock = clock
        self._sample_gap_ns = int(1e9 / sampled_per_second) if sampled_per_second > 0 else 0
        self._next_sample_ns = 0
        self._sampled: set[int] = set()

    def plan(
        self, numbers: Sequence[int], tenants: Sequence[int], due_ns: Sequence[int], sampled: Sequence[int] = ()
    ) -> None:
        """All events at once. sampled: numbers, which may be other drivers'."""
        self._sampled = set(sampled)
        self.numbers, self.tenants, self.due_ns = numbers, tenants, due_ns
        empty = bytes(8 * len(numbers))
        self.sent_ns, self.answered_ns = array("q", empty), array("q", empty)
        self.codes = array("i", empty[: 4 * len(numbers)])

    def add(self, number: int, tenant: int) -> int:
        """One more event, due now; its place. Only for outcomes that were not planned."""
        assert isinstance(self.numbers, array)
        assert isinstance(self.tenants, array)
        assert isinstance(self.due_ns, array)
        self.numbers.append(number)
        self.tenants.append(tenant)
        due_ns = self._clock() - self.begin_ns
        self.due_ns.append(due_ns)
        if self._sample_gap_ns and due_ns >= self._next_sample_ns:
            self._next_sample_ns = due_ns + self._sample_gap_ns
            self._sampled.add(number)
        self.sent_ns.append(0)
        self.answered_ns.append(0)
        self.codes.append(UNSENT)
        return len(self.numbers) - 1

    def sample_from(self, first_ns: int) -> None:
        """No event that was not planned and is due before this time since the begin is in the sample."""
        self._next_sample_ns = first_ns

    def sent(self, place: int) -> None:
        """It left."""
        self.sent_ns[place] = self._clock() - self.begin_ns
        self.codes[place] = UNDER_WAY
        self.under_way += 1

    def dropped(self, place: int) -> None:
        """It did not leave: too many are under way."""
        self.sent_ns[place] = self._clock() - self.begin_ns
        self.codes[place] = DROPPED
        if self.on_end is not None:
            self.on_end(place, False)

    def accepted(self, place: int) -> bool:
        """The door took it. True: `remember` its request id."""
        self._end(place, ACCEPTED)
        if self.on_end is not None:
            self.on_end(place, True)
        return self.numbers[place] in self._sampled

    def failed(self, place: int) -> None:
        """The door took it, and its result is a function error that it did not ask for."""
        self._end(place, FAILED)
        if self.on_end is not None:
            self.on_end(place, True)

    def remember(self, place: int, request_id: str) -> None:
        """The request id, as text, of an event of the sample."""
        self.ids[self.numbers[place]] = request_id

    def refused(self, place: int, reason: str) -> None:
        """The door did not take it, or was not to be reached (CONNECTION)."""
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            reason = OTHER
        self._end(place, FIRST_REASON + self._reasons.setdefault(reason, len(self._reasons)))
        if self.on_end is not None:
            self.on_end(place, False)

    def unanswered(self, place: int) -> None:
        """Nobody waits for its answer any longer."""
        self._end(place, UNANSWERED)
        if self.on_end is not None:
            self.on_end(place, False)

    def _end(self, place: int, code: int) -> None:
        self.answered_ns[place] = self._clock() - self.begin_ns
        self.codes[place] = code
        self.under_way -= 1
        if not self.under_way and self._all_ended is not None:
            self._all_ended.set()

    async def wait_answered(self, within_seconds: float) -> None:
        """Until nothing is under way, or the time is over."""
        if not self.under_way:
            return
        self._all_ended = asyncio.Event()
        try:
            async with asyncio.timeout(within_seconds):
                await self._all_ended.wait()
        except TimeoutError:
            pass

    def part(self, cpu: float) -> Part:
        """What is known now; whatever is still under way is unanswered, and given up now."""
        codes = np.array(self.codes, dtype=np.int32)
        answered_ns = np.array(self.answered_ns, dtype=np.int64)
        answered_ns[codes == UNDER_WAY] = self._clock() - self.begin_ns
        codes[codes == UNDER_WAY] = UNANSWERED
        return Part(
            np.array(self.numbers, dtype=np.int64),
            np.array(self.tenants, dtype=np.int32),
            np.array(self.due_ns, dtype=np.int64),
            np.array(self.sent_ns, dtype=np.int64),
            answered_ns,
            codes,
            tuple(self._reasons),
            self.ids,
            cpu,
        )


_ARRAYS = ("numbers", "tenants", "due_ns", "sent_ns", "answered_ns", "codes")


def save(part: Part, path: Path) -> None:
    """Into one .npz archive; whole once it is there."""
    about = json.dumps({"reasons": list(part.reasons), "ids": dict(part.ids), "cpu": part.cpu})
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        np.savez(file, about=np.array(about), **{name: getattr(part, name) for name in _ARRAYS})
    fresh.replace(path)


def load(path: Path) -> Part:
    """What `save` wrote. OSError: not there."""
    with np.load(path) as found:
        about = json.loads(str(found["about"]))
        ids = {int(number): request_id for number, request_id in about["ids"].items()}
        arrays = {name: found[name] for name in _ARRAYS}
        return Part(**arrays, reasons=tuple(about["reasons"]), ids=ids, cpu=about["cpu"])
