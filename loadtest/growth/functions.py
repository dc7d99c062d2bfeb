"""The steps: a fleet with a few functions and one with many, the same stretches on each in turn.

What is accepted goes to every function of the fleet in turn. All but the no-op are paused, so that their events wait
in the queue node, from where a client takes them: no machine has the memory for a sandbox of each of 10,000. End to
end is the no-op by itself, beside all the others.
"""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import evenflow_load, fleet_functions, processes
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.grpc_client import BATCH_EVENTS, GrpcLoad
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.results import Results
from loadtest.growth import report
from loadtest.growth.report import Comparison, Row
from loadtest.queue_node import wire
from loadtest.queue_node.client import NodeClient

FEW, MANY = "few", "many"
DEPLOY_SECONDS = 600.0
Say = Callable[[str], None]

COMPARISON = Comparison(
    title="Growth: many functions beside a few",
    prose=(
        "Written by `make growth ARGS='functions --save'`. Two fleets (`evenflow up`, 8 shards, one queue node),",
        "measured in turn; medians (lowest to highest). Accept goes to every function in turn: all but one are",
        "paused, and their events are taken at the queue node.",
    ),
    little=FEW,
    much=MANY,
    rows=(
        Row("functions", "functions deployed", "functions"),
        Row("accept", "accept, gRPC door, batches of 100, to every function in turn", "events/s", least_ratio=0.8),
        Row("drain", "lease + ack of those at the queue node", "events/s", least_ratio=0.8),
        Row("end_to_end", "one of the functions end to end, batches of 100", "events/s", least_ratio=0.8),
        Row("deploy_seconds", "deploying them", "s"),
        Row("memory_control", "memory of the control node (PSS)", "MiB"),
        Row("memory_queue-0", "memory of the queue node (PSS)", "MiB"),
        Row("memory_fleet", "memory of the fleet, every process (PSS)", "MiB"),
    ),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many functions on each fleet, and how much is measured. Events: multiples of 100."""

    few: int
    many: int
    repeats: int = 5
    accept_events: int = 50_000
    end_to_end_events: int = 20_000


class _Fleet:
    """One fleet and its functions."""

    def __init__(self, kind: str, fleet: EvenflowFleet, functions: int, sizes: Sizes, results: Results) -> None:
        self._kind = kind
        self._fleet = fleet
        self._names = tuple(f"many-{number:05}" for number in range(functions - 1))
        self._sizes = sizes
        self._results = results

    async def deploy(self, folder: Path) -> None:
        """All of them, all but the no-op paused; then what is used once, warm."""
        fleet = self._fleet
        fleet_functions.write(folder, 0)
        entry = '\n[[functions]]\nname = "{}"\ncode = "noop"\nhandler = "app.handler"\nruntime = "python3"\n'
        with (folder / "evenflow.toml").open("a") as file:
            file.writelines(entry.format(name) for name in self._names)
        began = time.monotonic()
        await fleet.deploy_folder(folder, DEPLOY_SECONDS)
        self._results.add("deploy_seconds", self._kind, time.monotonic() - began)
        self._results.add("functions", self._kind, len(self._names) + 1)
        for name in self._names:
            await fleet.pause(name, True)
        await evenflow_load.warm_up(fleet)
        # The first event of a function has its frontends ask for it.
        events = -(-len(self._names) // BATCH_EVENTS) * BATCH_EVENTS
        await self._accept(events)
        await self._drain(events)

    async def measure(self, say: Say) -> None:
        """Each stretch once."""
        sizes = self._sizes
        self._note("accept", await self._accept(sizes.accept_events), say)
        self._note("drain", await self._drain(sizes.accept_events), say)
        async with evenflow_load.connected(self._fleet) as ways:
            rate = await evenflow_load.end_to_end(self._fleet, ways.grpc_batches, sizes.end_to_end_events)
        self._note("end_to_end", rate, say)

    async def _accept(self, events: int) -> Rate:
        async with GrpcLoad(self._fleet.grpc_address) as door:
            meter = Meter(self._fleet.cpu_seconds)
            await door.publish_to(self._names, evenflow_load.PAYLOAD, events // BATCH_EVENTS)
            return meter.stop(events)

    async def _drain(self, events: int) -> Rate:
        meter = Meter(self._fleet.cpu_seconds)
        await NodeClient(self._fleet.peer("queue-0")).consume(events, wire.succeeded())
        return meter.stop(events)

    def weigh(self) -> None:
        """Memory, after everything."""
        for node_id in ("control", "queue-0"):
            size = processes.pss_bytes(self._fleet.pid(node_id))
            report.add_memory(self._results, f"memory_{node_id}", self._kind, size)
        mebibytes, unread = self._fleet.pss_mib()
        report.add_memory(self._results, "memory_fleet", self._kind, None if unread else round(mebibytes * report.MIB))

    def _note(self, measure: str, rate: Rate, say: Say) -> None:
        self._results.add_rate(measure, self._kind, rate)
        spent = ", ".join(f"{name} {us:g}" for name, us in rate.cpu_us_per_event.items() if us >= 1)
        say(f"  {self._kind} {measure}: {rate.per_second:,.0f} events/s; us an event: {spent}")


async def run(folder: Path, sizes: Sizes, results: Results, say: Say) -> None:
    """Everything, in order. NodeError, GrpcLoadError, Stalled, TimeoutError: a fleet did not do what it must."""
    async with AsyncExitStack() as stack:
        fleets = []
        for kind, functions in ((FEW, sizes.few), (MANY, sizes.many)):
            say(f"a fleet with {functions:,} functions")
            started = await EvenflowFleet.started(stack, folder / kind)
            fleet = _Fleet(kind, started, functions, sizes, results)
            await fleet.deploy(folder / kind / "functions")
            fleets.append(fleet)
        for number in range(sizes.repeats):
            say(f"round {number + 1} of {sizes.repeats}")
            for fleet in fleets:
                await fleet.measure(say)
            # Each is first in turn: drift of the machine hits both alike.
            fleets.reverse()
        for fleet in fleets:
            fleet.weigh()
