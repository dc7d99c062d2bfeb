"""One run from its spec to its result: drivers, the handlers' records, the sample of ended events, the verdict."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import traffic
from loadtest.arrivals.arrivals import Arrivals
from loadtest.open_loop import files, outcomes, status_sample
from loadtest.open_loop import spec as specs
from loadtest.open_loop.drivers import SAVE_SECONDS, Drivers
from loadtest.open_loop.merge import Followed, Merged, conclude, merge
from loadtest.open_loop.outcomes import ACCEPTED
from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.record_reader import RecordReader

_POLL_SECONDS = 0.05
_DRAIN_POLL_SECONDS = 0.02


async def run(
    spec: LoadSpec,
    folder: Path,
    progress: Callable[[float], None] | None = None,
    began: Callable[[int], None] | None = None,
    schedule: Arrivals | None = None,
) -> LoadResult:
    """Run it; cancelled or failed, it leaves no process behind.

    folder: for files of this run, made when missing; no two runs at once share one. progress: told the part of the
    schedule's time that is over, 0 to 1, some 20 times a second. began: told once, about 0.1 s ahead, the moment of the
    schedule's begin in nanoseconds since the epoch: an event is due at this plus its place in the schedule. schedule:
    what to send instead of what spec.traffic says; its `seconds` must be the traffic's.

    ValueError: no such traffic; drivers.DriverFailed: a driver broke. A fleet that is down or refuses is no error.
    """
    told = await asyncio.to_thread(traffic.schedule, spec.traffic) if schedule is None else schedule
    folder.mkdir(parents=True, exist_ok=True)
    _prepare(spec, told, folder)
    with (
        RecordReader(Path(spec.records), spec.run) if spec.records else nullcontext() as records,
        Drivers(folder, spec.drivers) as drivers,
    ):
        await drivers.ready()
        begin_ns, wall_ns = drivers.begin()
        if began is not None:
            began(wall_ns)
        await _attend(spec, drivers, begin_ns, progress)
        parts = [await asyncio.to_thread(outcomes.load, folder / files.part(one)) for one in range(spec.drivers)]
        found = merge(parts)
        followed = await _follow(spec, found, records, wall_ns)
    return conclude(spec, found, followed)


def _prepare(spec: LoadSpec, told: Arrivals, folder: Path) -> None:
    (folder / files.SPEC).write_text(json.dumps(specs.as_json(spec)))
    for index in range(spec.drivers):
        # Of an earlier run in the same folder.
        for name in (files.ready(index), files.part(index), files.log(index)):
            (folder / name).unlink(missing_ok=True)
        # Callers take tenants and work in turn: each driver needs some, whatever the rate.
        files.save_schedule(told if spec.callers else told.part(index, spec.drivers), folder / files.schedule(index))


async def _attend(spec: LoadSpec, drivers: Drivers, begin_ns: int, progress: Callable[[float], None] | None) -> None:
    length_ns = spec.traffic.seconds * 1e9
    async with asyncio.timeout(spec.traffic.seconds + 2 * spec.answer_seconds + SAVE_SECONDS):
        while not drivers.are_done():
            if progress is not None:
                progress(min(1.0, max(0.0, (time.monotonic_ns() - begin_ns) / length_ns)))
            await asyncio.sleep(_POLL_SECONDS)
    if progress is not None:
        progress(1.0)


async def _follow(spec: LoadSpec, found: Merged, records: RecordReader | None, wall_ns: int) -> Followed:
    accepted = found.codes == ACCEPTED
    end_ns = wall_ns + int(spec.traffic.seconds * 1e9)
    due_ns = wall_ns + found.due_ns
    start_ms = np.full(len(found.numbers), np.nan)
    deadline = time.monotonic() + spec.drain_seconds
    drained_seconds = 0.0
    if records is not None:
        while not _all_started(records, found, accepted):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        starts_ns = records.starts_ns(found.numbers)
        is_known = starts_ns > 0
        start_ms[is_known] = (starts_ns - due_ns)[is_known] / 1e6
        all_started = bool(is_known[accepted].all())
        drained_seconds = max(0.0, (records.last_end_ns - end_ns) / 1e9) if all_started else spec.drain_seconds
    places = {int(number): place for place, number in enumerate(found.numbers) if int(number) in found.ids}
    tenants = {number: int(found.tenants[place]) for number, place in places.items()}
    left_seconds = max(1.0, deadline - time.monotonic())
    statuses = await status_sample.ask(spec, found.ids, tenants, left_seconds)
    settled = {number: one for number, one in statuses.items() if one.finished_at_ms}
    settled_ms = [one.finished_at_ms - due_ns[places[number]] / 1e6 for number, one in settled.items()]
    if records is None:
        for number, one in statuses.items():
            if one.first_started_at_ms:
                start_ms[places[number]] = one.first_started_at_ms - due_ns[places[number]] / 1e6
        if settled:
            drained_seconds = max(0.0, max(one.finished_at_ms for one in settled.values()) / 1e3 - end_ns / 1e9)
    return Followed(start_ms, np.array(settled_ms, dtype=np.float64), drained_seconds)


def _all_started(records: RecordReader, found: Merged, accepted: NDArray[np.bool_]) -> bool:
    records.read()
    return records.records >= int(accepted.sum()) and bool((records.starts_ns(found.numbers[accepted]) > 0).all())
