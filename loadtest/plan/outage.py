"""An outage behind the queue, made on purpose: how the backlog goes away while events go on coming."""

import asyncio
import math
import time
from collections.abc import Sequence

import numpy as np

from loadtest.arrivals.traffic import tenants_of
from loadtest.open_loop.result import LoadResult
from loadtest.plan.measured import Drain
from loadtest.plan.runner import Runner
from loadtest.plan.search import Request
from loadtest.plan.site import Shards
from loadtest.workloads.deploy import tenant_name

# Of the best rate: as much again is free to work the backlog off.
LOAD = 0.5
# The load goes on for so many times the outage; a backlog that is still there then is not waited for.
MOST_TIMES = 3.0
# Under the same load before the pause, and at most the outage, to see how deep the queue is when nothing is wrong.
MAX_STEADY_SECONDS = 2.0
LOOK_SECONDS = 0.1
MAX_LOOKS = 10_000
# Of a Poisson number of events, around its mean.
_DEPTH_DEVIATIONS = 3.0


def whole_seconds(outage_seconds: float) -> float:
    """How long it takes at most."""
    return _steady_seconds(outage_seconds) + (1 + MOST_TIMES) * outage_seconds


async def measure(runner: Runner, best_per_second: float, outage_seconds: float, drivers: int) -> Drain:
    """Under LOAD times the best rate: look at the steady depth, pause the pollers for `outage_seconds`, let them go on,
    and follow the depth until it is as before. PlanError: the load broke."""
    site, spec = runner.rig.site, runner.spec
    senders = tenants_of(spec.traffic)
    tenants = [tenant_name(index, senders) for index in range(senders)]
    within_seconds = MOST_TIMES * outage_seconds
    request = Request("drain", LOAD * best_per_second, "drain", drivers)
    told = runner.spec_of(request, seconds=whole_seconds(outage_seconds))
    begun = asyncio.Event()
    load = asyncio.create_task(runner.drive(told, lambda _: begun.set()), name="load of the drain")
    try:
        await _first(load, begun)
        steady = await _looks(runner, load, _steady_seconds(outage_seconds))
        settled_depth = _settled_depth([look.depth for _, look in steady])
        await site.pause(tenants, spec.function, True)
        await asyncio.sleep(outage_seconds)
        before = await site.shards()
        await site.pause(tenants, spec.function, False)
        looks = await _looks(runner, load, within_seconds, settled_depth)
        # To its end: only then is it known whether the driver was in time.
        result = await load
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await site.pause(tenants, spec.function, False)
    return drain_of(before, looks, settled_depth, within_seconds, result)


def drain_of(
    before: Shards,
    looks: Sequence[tuple[float, Shards]],
    settled_depth: float,
    within_seconds: float,
    result: LoadResult,
) -> Drain:
    """What the looks say, each with its seconds since the pause's end; before: at it. Void without a look. Pure."""
    if not looks:
        why = "the load had ended before the fleet was looked at"
        return Drain(before.depth, 0.0, None, (), settled_depth, within_seconds, (*result.void, why))
    at, last = looks[-1]
    arrived = last.depth + last.finished - before.depth - before.finished
    drained = at if last.depth <= settled_depth else None
    depths = tuple((round(seconds, 3), one.depth) for seconds, one in looks)
    return Drain(
        before.depth,
        max(0.0, arrived / max(at, 1e-9)),
        drained,
        depths,
        settled_depth,
        within_seconds,
        tuple(result.void),
    )


def _steady_seconds(outage_seconds: float) -> float:
    return min(MAX_STEADY_SECONDS, outage_seconds)


def _settled_depth(depths: Sequence[int]) -> float:
    mean = float(np.mean(depths)) if depths else 0.0
    return mean + _DEPTH_DEVIATIONS * math.sqrt(1 + mean)


async def _looks(
    runner: Runner, load: "asyncio.Task[LoadResult]", within_seconds: float, until_depth: float = -1.0
) -> list[tuple[float, Shards]]:
    """Until the depth is `until_depth`, the time is over or the load has ended."""
    began, found = time.monotonic(), list[tuple[float, Shards]]()
    while len(found) < MAX_LOOKS and not load.done() and time.monotonic() - began < within_seconds:
        shards = await runner.rig.site.shards()
        found.append((time.monotonic() - began, shards))
        if shards.depth <= until_depth:
            break
        await asyncio.sleep(LOOK_SECONDS)
    return found


async def _first(load: "asyncio.Task[LoadResult]", begun: asyncio.Event) -> None:
    """Until the load has begun. PlanError: it ended before."""
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait({load, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if load.done():
        await load
