"""One run from its spec to its result: drivers, the handlers' records, the sample of ended events, the verdict."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from loadtest.arrivals import traffic
from loadtest.arrivals.arrivals import Arrivals
from loadtest.open_loop import files, outcomes, sample
from loadtest.open_loop import spec as specs
from loadtest.open_loop.drivers import SAVE_SECONDS, DriverFailed, Drivers
from loadtest.open_loop.follow import follow
from loadtest.open_loop.merge import Followed, Merged, conclude, merge
from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.record_reader import RecordReader

_POLL_SECONDS = 0.05


async def run(
    spec: LoadSpec,
    folder: Path,
    progress: Callable[[float], None] | None = None,
    began: Callable[[int], None] | None = None,
    schedule: Arrivals | None = None,
    waiting: Callable[[str], None] = lambda _: None,
    seen: Callable[[Merged, Followed], None] = lambda _found, _followed: None,
) -> LoadResult:
    """Run it; cancelled or failed, it leaves no process behind.

    folder: for files of this run, made when missing; no two runs at once share one. progress: told the part of the
    schedule's time that is over, 0 to 1, some 20 times a second. began: told once, about 0.1 s ahead, the moment of the
    schedule's begin in nanoseconds since the epoch: an event is due at this plus its place in the schedule. schedule:
    what to send instead of what spec.traffic says; its `seconds` must be the traffic's. waiting: told, once all was
    sent, about once a second what is still waited for ("11 events to start"). seen: told at the end what the result is
    made from, an entry an event, for whoever looks at the run by stretches of time.

    ValueError: no such traffic; record_reader.TooManyFiles; drivers.DriverFailed: one broke or took too long. A fleet
    that is down or refuses is no error.
    """
    if schedule is None:
        schedule = await asyncio.to_thread(traffic.schedule, spec.traffic, spec.warm_up_seconds)
    folder.mkdir(parents=True, exist_ok=True)
    _prepare(spec, schedule, folder)
    records = await asyncio.to_thread(RecordReader, Path(spec.records), spec.run) if spec.records else None
    with Drivers(folder, spec.drivers) as drivers:
        await drivers.ready()
        begin_ns, wall_ns = drivers.begin()
        if began is not None:
            began(wall_ns)
        await _attend(spec, drivers, begin_ns, progress)
        parts = [await asyncio.to_thread(outcomes.load, folder / files.part(one)) for one in range(spec.drivers)]
        found = merge(parts)
        followed = await follow(spec, found, records, begin_ns, wall_ns, waiting)
    seen(found, followed)
    return conclude(spec, found, followed)


def _prepare(spec: LoadSpec, told: Arrivals, folder: Path) -> None:
    (folder / files.SPEC).write_text(json.dumps(specs.as_json(spec)))
    first = int(np.searchsorted(told.at_seconds, spec.warm_up_seconds))
    wanted = 0.0 if spec.synchronous else spec.status_per_second * (spec.traffic.seconds - spec.warm_up_seconds)
    sampled = sample.draw(first, len(told) - first, wanted, spec.traffic.seed)
    for index in range(spec.drivers):
        # Of an earlier run in the same folder.
        for name in (files.ready(index), files.part(index), files.log(index)):
            (folder / name).unlink(missing_ok=True)
        # Callers take tenants and work in turn: each driver needs some, whatever the rate.
        part = told if spec.callers else told.part(index, spec.drivers)
        files.save_schedule(part, sampled, folder / files.schedule(index))


async def _attend(spec: LoadSpec, drivers: Drivers, begin_ns: int, progress: Callable[[float], None] | None) -> None:
    length_ns = spec.traffic.seconds * 1e9
    within_seconds = spec.traffic.seconds + 2 * spec.answer_seconds + SAVE_SECONDS
    deadline = time.monotonic() + within_seconds
    while not drivers.are_done():
        if time.monotonic() > deadline:
            raise DriverFailed(f"the load drivers did not end within {within_seconds:g} s")
        if progress is not None:
            progress(min(1.0, max(0.0, (time.monotonic_ns() - begin_ns) / length_ns)))
        await asyncio.sleep(_POLL_SECONDS)
    if progress is not None:
        progress(1.0)
