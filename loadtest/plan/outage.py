"""An outage behind the queue, made on purpose: how the backlog goes away while events go on coming."""

import asyncio
import time

from loadtest.open_loop.result import LoadResult
from loadtest.plan.measured import Drain
from loadtest.plan.runner import Runner, tenants_of
from loadtest.plan.search import Request
from loadtest.workloads.deploy import tenant_name

# Of the best rate: as much again is free to work the backlog off.
LOAD = 0.5
# The load goes on for so many times the outage; a backlog that is still there then is not waited for.
MOST_TIMES = 6.0
LOOK_SECONDS = 0.1
# The backlog is gone when the depth is what arrives in this time.
SETTLED_SECONDS = 0.1
MAX_LOOKS = 10_000


async def measure(runner: Runner, best_per_second: float, outage_seconds: float, drivers: int) -> Drain:
    """Pause the pollers for `outage_seconds` under LOAD times the best rate, let them go on, and follow the depth until
    it is what SETTLED_SECONDS bring. `seconds` is the bound where it never was."""
    site, senders = runner.rig.site, tenants_of(runner.spec)
    tenants = [tenant_name(index, senders) for index in range(senders)]
    rate = LOAD * best_per_second
    seconds = (1 + MOST_TIMES) * outage_seconds
    spec = runner.spec_of(Request("drain", rate, "drain", drivers), seconds=seconds)
    settled_depth = max(10.0, rate * SETTLED_SECONDS)
    depths: list[tuple[float, int]] = []
    begun = asyncio.Event()
    await site.pause(tenants, spec.function, True)
    load = asyncio.create_task(runner.drive(spec, lambda _: begun.set()), name="load of the drain")
    try:
        await _first(load, begun)
        await asyncio.sleep(outage_seconds)
        backlog = (await site.shards()).depth
        await site.pause(tenants, spec.function, False)
        resumed = time.monotonic()
        while len(depths) < MAX_LOOKS and not load.done():
            depths.append((round(time.monotonic() - resumed, 3), (await site.shards()).depth))
            if depths[-1][1] <= settled_depth:
                break
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        await site.pause(tenants, spec.function, False)
    return Drain(backlog, rate, depths[-1][0] if depths else 0.0, tuple(depths))


async def _first(load: "asyncio.Task[LoadResult]", begun: asyncio.Event) -> None:
    """Until the load has begun. PlanError: it ended before."""
    waiting = asyncio.create_task(begun.wait())
    try:
        await asyncio.wait({load, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if load.done():
        await load
