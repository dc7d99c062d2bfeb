"""After the sends: what became of the accepted events, from the handlers' records and over GetEvent."""

import asyncio
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from loadtest.open_loop import status_sample
from loadtest.open_loop.merge import Followed, Merged
from loadtest.open_loop.outcomes import is_accepted
from loadtest.open_loop.spec import LoadSpec
from loadtest.open_loop.status_sample import TELL_SECONDS, Status
from loadtest.workloads.record_reader import RecordReader

_POLL_SECONDS = 0.02
# What ended long before is told within this, also when the drain's time is over.
_LEAST_ASK_SECONDS = 1.0


async def follow(
    spec: LoadSpec,
    found: Merged,
    records: RecordReader | None,
    begin_ns: int,
    wall_ns: int,
    waiting: Callable[[str], None] = lambda _: None,
) -> Followed:
    """Until all that was accepted has started and the sample has ended, at most drain_seconds.

    begin_ns, wall_ns: the schedule's begin by the monotonic clock and since the epoch. waiting: told every
    TELL_SECONDS for what this waits.
    """
    events = len(found.numbers)
    end_ns = wall_ns + int(spec.traffic.seconds * 1e9)
    deadline = time.monotonic() + spec.drain_seconds
    start_ms = np.full(events, np.nan)
    drained_seconds, completed = 0.0, 0
    if records is not None:
        records.count_between(wall_ns + int(spec.warm_up_seconds * 1e9), end_ns)
        is_whole = await _drain(records, found, deadline, waiting)
        starts_ns = records.starts_ns(found.numbers)
        is_known = starts_ns > 0
        start_ms[is_known] = (starts_ns - wall_ns - found.due_ns)[is_known] / 1e6
        drained_seconds = max(0.0, (records.last_end_ns - end_ns) / 1e9) if is_whole else spec.drain_seconds
        completed = records.completed
    gave_up_ms = _since_due_ms(found, begin_ns)
    places = {int(number): place for place, number in enumerate(found.numbers) if int(number) in found.ids}
    tenants = {number: int(found.tenants[place]) for number, place in places.items()}
    left_seconds = max(_LEAST_ASK_SECONDS, deadline - time.monotonic())
    statuses = await status_sample.ask(
        spec, found.ids, tenants, left_seconds, lambda left: waiting(f"{left:,} events of the sample to end")
    )
    asked_ms = _since_due_ms(found, begin_ns)
    settled_ms, not_settled = _settled(spec, found, statuses, places, asked_ms, wall_ns)
    ends_ms = [0.0]
    for number, took_ms in zip(statuses, settled_ms.tolist(), strict=True):
        ends_ms.append(int(found.due_ns[places[number]]) / 1e6 + took_ms - spec.traffic.seconds * 1e3)
    settled_seconds = max(ends_ms) / 1e3
    if records is not None:
        is_followed = np.ones(events, dtype=np.bool_)
        return Followed(
            start_ms, gave_up_ms, is_followed, settled_ms, not_settled, drained_seconds, completed, settled_seconds
        )
    is_followed = np.zeros(events, dtype=np.bool_)
    for number, one in statuses.items():
        place = places[number]
        is_followed[place] = True
        if one.first_started_at_ms:
            start_ms[place] = _moment_ms(spec, found, place, one, one.first_started_at_ms, wall_ns)
    return Followed(
        start_ms,
        asked_ms,
        is_followed,
        settled_ms,
        not_settled,
        drained_seconds=settled_seconds,
        settled_seconds=settled_seconds,
    )


async def _drain(records: RecordReader, found: Merged, deadline: float, waiting: Callable[[str], None]) -> bool:
    """Whether all that was accepted has a record by then."""
    accepted = found.numbers[is_accepted(found.codes)]
    tell_at = time.monotonic() + TELL_SECONDS
    while True:
        records.read()
        if records.records >= len(accepted) and bool((records.starts_ns(accepted) > 0).all()):
            return True
        now = time.monotonic()
        if now > deadline:
            return False
        if now >= tell_at:
            tell_at = now + TELL_SECONDS
            waiting(f"{int((records.starts_ns(accepted) == 0).sum()):,} events to start")
        await asyncio.sleep(_POLL_SECONDS)


def _settled(
    spec: LoadSpec,
    found: Merged,
    statuses: Mapping[int, Status],
    places: Mapping[int, int],
    asked_ms: NDArray[np.float64],
    wall_ns: int,
) -> tuple[NDArray[np.float64], int]:
    """Of each of the sample from its intended send to its end, or to now; and how many the latter are."""
    times_ms, not_settled = [], 0
    for number, one in statuses.items():
        place = places[number]
        if one.finished_at_ms:
            times_ms.append(_moment_ms(spec, found, place, one, one.finished_at_ms, wall_ns))
        else:
            times_ms.append(float(asked_ms[place]))
            not_settled += 1
    return np.array(times_ms, dtype=np.float64), not_settled


def _moment_ms(spec: LoadSpec, found: Merged, place: int, one: Status, at_ms: int, wall_ns: int) -> float:
    """From the intended send to a moment by the fleet's clock, milliseconds."""
    due_ns = int(found.due_ns[place])
    if spec.shares_clock:
        return at_ms - (wall_ns + due_ns) / 1e6
    # Two clocks: what the generator's says up to the answer, and the fleet's own from its accept. What lies between
    # the two, the write and the answer's way back, is in both, so that this is rather too long.
    return (int(found.answered_ns[place]) - due_ns) / 1e6 + at_ms - one.accepted_at_ms


def _since_due_ms(found: Merged, begin_ns: int) -> NDArray[np.float64]:
    return np.asarray((time.monotonic_ns() - begin_ns - found.due_ns) / 1e6)
