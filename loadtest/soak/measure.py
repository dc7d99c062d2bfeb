"""The steps of a run: a fleet, both doors in an open loop, looks and probes beside them, the drain, the count."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np

from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.open_loop import run as open_loop
from loadtest.open_loop.merge import Followed, Merged
from loadtest.open_loop.outcomes import is_accepted
from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec
from loadtest.plan.site import Shards, Site
from loadtest.soak import plan as plans
from loadtest.soak.judge import Run
from loadtest.soak.plan import SoakPlan
from loadtest.soak.probe import Probe
from loadtest.soak.verdict import Ledger
from loadtest.soak.watch import Sample, Watch
from loadtest.workloads.handler import BUCKET
from loadtest.workloads.work import is_told_to_fail

DRAIN_SECONDS = 90.0
_POLL_SECONDS = 0.1


class Door:
    """One door's part of the load, and what is known of each of its events once it is over."""

    def __init__(self, plan: SoakPlan, site: Site, door: str, function: str, run: int) -> None:
        self.spec = LoadSpec(
            host=site.host,
            http_port=site.http_port,
            grpc_port=site.grpc_port,
            door=door,
            function=function,
            traffic=plan.traffic(f"soak {run}"),
            work=plan.work(),
            run=run,
            records=str(site.data / "buckets" / BUCKET),
            # Probes tell the ends while they are known: outcomes are kept for a part of the run only.
            status_per_second=0.0,
        )
        self.found: Merged | None = None
        self.followed: Followed | None = None
        self.result: LoadResult | None = None
        self.begun: asyncio.Event = asyncio.Event()

    async def drive(self, folder: Path) -> None:
        """All of it, to the last answer and record. RuntimeError: the driver broke."""

        def seen(found: Merged, followed: Followed) -> None:
            self.found, self.followed = found, followed

        self.result = await open_loop.run(self.spec, folder, began=lambda _: self.begun.set(), seen=seen)

    @property
    def told_to_fail(self) -> int:
        """Of the accepted events."""
        assert self.found is not None
        numbers = self.found.numbers[is_accepted(self.found.codes)].tolist()
        return sum(is_told_to_fail(self.spec.work, self.spec.run, number) for number in numbers)


async def measure(plan: SoakPlan, folder: Path, told: Callable[[Sample], None]) -> Run:
    """The whole run; what it started ends with it. RuntimeError, TimeoutError, CliError: fleet or driver broke."""
    async with AsyncExitStack() as stack:
        fleet = await EvenflowFleet.started(stack, folder / "fleet", 0, plan.fleet().arguments())
        plans.write_functions(folder / "functions")
        await fleet.deploy_folder(folder / "functions")
        site = Site(fleet.data)
        stack.push_async_callback(site.close)
        before = await site.shards()
        probe = Probe(site, plans.DESTINED, plans.PROBES_PER_SECOND)
        stack.push_async_callback(probe.close)
        watch = Watch(site, plan.sample_seconds, told)
        doors = (
            Door(plan, site, "http", plans.DESTINED, plans.HTTP_RUN),
            Door(plan, site, "grpc", plans.DYING, plans.GRPC_RUN),
        )
        await _load(plan, doors, watch, probe, folder)
        after = await _drained(site)
        return Run(
            plan=plan,
            samples=tuple(watch.samples),
            missed=watch.missed,
            cores=len(os.sched_getaffinity(0)),
            ledger=await asyncio.to_thread(_count, doors, probe, before, after),
            generator_void=[reason for door in doors if door.result for reason in door.result.void],
            latencies=_latencies(doors, probe),
        )


async def _load(plan: SoakPlan, doors: tuple[Door, ...], watch: Watch, probe: Probe, folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        driving = [group.create_task(door.drive(folder / door.spec.door)) for door in doors]
        for door in doors:
            await door.begun.wait()
        began = time.monotonic()
        watching = group.create_task(watch.run(began))
        await probe.run(began, plan.seconds)
        watching.cancel()
        await probe.finish()
        await asyncio.gather(*driving)


async def _drained(site: Site) -> Shards:
    """The shards once nothing is left in them, or DRAIN_SECONDS later as they are."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while True:
        found = await site.shards()
        if not found.depth or time.monotonic() > deadline:
            return found
        await asyncio.sleep(_POLL_SECONDS)


def _count(doors: tuple[Door, ...], probe: Probe, before: Shards, after: Shards) -> Ledger:
    results = [door.result for door in doors if door.result is not None]
    refused = sum(sum(one.refused.values()) + one.dropped + one.unanswered for one in results)
    return Ledger(
        accepted=sum(one.accepted for one in results) + probe.accepted,
        delivered=sum(door.told_to_fail for door in doors if door.spec.function == plans.DESTINED),
        finished=after.finished - before.finished,
        depth=after.depth,
        not_started=sum(one.not_started for one in results),
        refused=refused + probe.refused,
    )


def _latencies(doors: tuple[Door, ...], probe: Probe) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    accept, start = [], []
    for door in doors:
        assert door.found is not None and door.followed is not None
        taken = is_accepted(door.found.codes)
        due_seconds = door.found.due_ns / 1e9
        accept.append((due_seconds[taken], (door.found.answered_ns - door.found.due_ns)[taken] / 1e6))
        begun = taken & ~np.isnan(door.followed.start_ms)
        start.append((due_seconds[begun], door.followed.start_ms[begun]))
    ended = np.array(probe.ended, dtype=np.float64).reshape(-1, 2)
    return {
        "accept": _joined(accept),
        "dwell, due to handler start": _joined(start),
        "end to end, of the probes": (ended[:, 0], ended[:, 1]),
    }


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([at for at, _ in parts]), np.concatenate([values for _, values in parts])
