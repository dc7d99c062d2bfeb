"""What is measured once, beside the rounds: cold and warm starts, memory, the host by itself."""

import asyncio
import time

from loadtest import runtime_bench
from loadtest.bench import stats
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.fleet_functions import NOOP, cold_name
from loadtest.bench.grpc_client import GrpcLoad
from loadtest.bench.options import Sizes
from loadtest.bench.results import Results
from loadtest.bench.rounds import P50, P99
from loadtest.bench.rows import EVENFLOW

# How long the first sandbox stays busy, so that the second invoke needs a further one.
_BUSY_SECONDS = 0.3
_BUSY_AFTER_SECONDS = 0.15


async def measure_idle_fleet(fleet: EvenflowFleet, sizes: Sizes, results: Results) -> None:
    """Memory of a fleet that has served nothing yet, and the CPU that it spends on nothing."""
    before = sum(fleet.cpu_seconds().values())
    await asyncio.sleep(sizes.idle_seconds)
    spent = sum(fleet.cpu_seconds().values()) - before
    mebibytes, unread = fleet.pss_mib()
    results.add("idle_cpu", EVENFLOW, 100 * spent / sizes.idle_seconds)
    results.add("ready_seconds", EVENFLOW, fleet.ready_seconds)
    if unread:
        results.notes.append(f"memory: not measured, {unread} processes could not be read (run as root)")
    else:
        results.add("memory_pss", EVENFLOW, mebibytes)


async def measure_first(fleet: EvenflowFleet, results: Results) -> None:
    """The first invoke after a deploy."""
    async with GrpcLoad(fleet.grpc_address) as door:
        began = time.perf_counter()
        await door.invoke(NOOP)
        results.add("first_invoke_ms", EVENFLOW, (time.perf_counter() - began) * 1e3)


async def measure_door(fleet: EvenflowFleet, sizes: Sizes, results: Results) -> None:
    """Warm and cold Invoke through the gRPC door."""
    async with GrpcLoad(fleet.grpc_address) as door:
        warm_us = []
        for _ in range(sizes.warm_invokes):
            began = time.perf_counter()
            await door.invoke(NOOP)
            warm_us.append((time.perf_counter() - began) * 1e6)
        cold_ms = []
        for number in range(fleet.cold_functions):
            name = cold_name(number)
            # The first one fetches the package and stays busy; the further sandbox is what is measured.
            first = asyncio.create_task(door.invoke(name, str(_BUSY_SECONDS).encode()))
            await asyncio.sleep(_BUSY_AFTER_SECONDS)
            began = time.perf_counter()
            await door.invoke(name, b"0")
            cold_ms.append((time.perf_counter() - began) * 1e3)
            await first
    for measure, values in (("invoke", warm_us), ("door_cold", cold_ms)):
        results.add(f"{measure}_p50", EVENFLOW, stats.quantile(values, P50))
        results.add(f"{measure}_p99", EVENFLOW, stats.quantile(values, P99))


async def measure_host(sizes: Sizes, results: Results) -> None:
    """One runtime host by itself, as a real process, over its own stream."""
    found = await runtime_bench.run(sizes.warm_invokes, sizes.cold_functions, sizes.host_events)
    results.add("host_overhead_p50", EVENFLOW, found["warm_overhead_us"])
    results.add("host_cpu_us", EVENFLOW, found["host_cpu_us_per_invocation"])
    trip_us, stream_us = found["warm_round_trip_us"]["p50"], found["stream_round_trip_us"]["p50"]
    results.notes.append(
        f"runtime host by itself: isolation tier {found['isolation_tier']}, round trip p50 {trip_us:.0f} us, of which "
        f"{stream_us:.0f} us are the gRPC stream; {found['noop_per_second']:,} runs/s"
    )
