"""The steps: a shallow backlog measured, the deep one made, measured again; one fleet, one queue node.

The backlog belongs to functions that are paused at the pollers. What is measured beside it are a function that runs,
and a client that takes events of the backlog itself.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from evenflow.queue.v1 import queue_pb2

from loadtest.bench import evenflow_load, fleet_functions, idle, processes
from loadtest.bench.evenflow_fleet import TENANT, EvenflowFleet
from loadtest.bench.evenflow_load import Ways
from loadtest.bench.http_client import HttpLoad, invoke_request
from loadtest.bench.meter import Meter, Rate
from loadtest.bench.results import Results
from loadtest.growth import report
from loadtest.growth.report import Comparison, Row
from loadtest.queue_node import wire
from loadtest.queue_node.client import NodeClient

SHALLOW, DEEP = "shallow", "deep"
SHALLOW_EVENTS = 10_000
BACKLOG = ("backlog-0", "backlog-1", "backlog-2", "backlog-3")
LATE = "late"
BRIEF = "brief"
BRIEF_EVENTS = 1_000
BRIEF_AGE_SECONDS = 60
PAYLOAD_BYTES = 200
BATCH_EVENTS = 100
# As long as a release may ask for.
DELAY_MS = 6 * 3_600_000
FILL_EVENTS = 500_000
EXPIRY_SECONDS = 180.0
RESTART_SECONDS = 300.0
_POLL_SECONDS = 0.02
_SEED = 20_260_101
Say = Callable[[str], None]

COMPARISON = Comparison(
    title="Growth: a deep backlog beside a shallow one",
    prose=(
        "Written by `make growth SAVE=1`. One fleet (`evenflow up`, 8 shards, one queue node); medians (lowest to",
        "highest). The backlog belongs to paused functions; the other function and the client run beside it.",
    ),
    little=SHALLOW,
    much=DEEP,
    rows=(
        Row("depth", "events in the queue node, delayed ones included", "events"),
        Row("accept", "accept at the node, batches of 100", "events/s", least_ratio=0.8),
        Row("drain", "lease + ack of the backlog at the node", "events/s", least_ratio=0.8),
        Row("end_to_end", "another function end to end, batches of 100", "events/s", least_ratio=0.8),
        Row("start_p50", "another function's event, submit to handler start, p50", "ms"),
        Row("start_p99", "the same, p99", "ms", most=20.0),
        Row("start_max", "the same, highest", "ms"),
        Row("memory", "memory of the queue node (PSS)", "MiB", most_growth=300.0),
        Row("expiry_late_ms", "events of a paused function ended after their age, the latest", "ms"),
        Row("restart_seconds", "queue node killed until all shards serve", "s"),
    ),
)

_BRIEF_DEPLOYMENT = f"""
[[functions]]
name = "{BRIEF}"
code = "noop"
handler = "app.handler"
runtime = "python3"

[functions.async]
maximum_event_age_seconds = {BRIEF_AGE_SECONDS}
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How deep, and how much is measured. `stretch_events`: multiples of 100."""

    events: int
    delayed: int
    repeats: int = 5
    stretch_events: int = 50_000
    end_to_end_events: int = 20_000
    idle_samples: int = 300


class Growth:
    """One run, into `results`."""

    def __init__(self, fleet: EvenflowFleet, sizes: Sizes, results: Results, say: Say) -> None:
        self._fleet = fleet
        self._sizes = sizes
        self._results = results
        self._say = say
        self._randomness = random.Random(_SEED)
        self._batches = wire.EventBatches(BACKLOG, PAYLOAD_BYTES)
        self._shard_ids: list[int] = []

    async def run(self) -> None:
        """Everything, in order. NodeError, Stalled, TimeoutError: the fleet did not do what it must."""
        fleet, sizes = self._fleet, self._sizes
        fleet_functions.write(fleet.folder / "functions", 0)
        with (fleet.folder / "functions" / "evenflow.toml").open("a") as file:
            file.write(_BRIEF_DEPLOYMENT)
        await fleet.deploy_folder(fleet.folder / "functions")
        for name in (*BACKLOG, LATE, BRIEF):
            await fleet.pause(name, True)
        await evenflow_load.warm_up(fleet)
        node = self._node()
        self._shard_ids = [shard.depth.shard_id for shard in await node.describe()]
        await self._fill(node, SHALLOW_EVENTS)
        await self._measure(SHALLOW, node)
        self._say(f"filling to {sizes.events:,} events")
        await self._fill(node, sizes.events - SHALLOW_EVENTS)
        self._say(f"delaying {sizes.delayed:,} events")
        await self._delay(node)
        await self._submit_brief()
        submitted = time.monotonic()
        await self._measure(DEEP, node)
        await self._await_brief(node, submitted)
        await self._restart()

    def _node(self) -> NodeClient:
        return NodeClient(self._fleet.peer("queue-0"))

    async def _fill(self, node: NodeClient, events: int) -> None:
        for at in range(0, events, FILL_EVENTS):
            part = min(FILL_EVENTS, events - at)
            rate = await self._timed(part, node.enqueue(self._batches, self._shard_ids, part, BATCH_EVENTS))
            if at:
                self._say(f"  {at + part:,}: {rate.per_second:,.0f} events/s")

    async def _delay(self, node: NodeClient) -> None:
        late = wire.EventBatches((LATE,), PAYLOAD_BYTES)
        for at in range(0, self._sizes.delayed, FILL_EVENTS):
            part = min(FILL_EVENTS, self._sizes.delayed - at)
            await node.enqueue(late, self._shard_ids, part, BATCH_EVENTS)
            await node.consume(part, wire.delayed(DELAY_MS), leave=(*BACKLOG, BRIEF))

    async def _measure(self, depth: str, node: NodeClient) -> None:
        sizes, fleet = self._sizes, self._fleet
        self._say(f"measuring at a {depth} backlog")
        request = invoke_request(fleet.host, fleet_functions.NOOP, evenflow_load.PAYLOAD)
        async with HttpLoad(fleet.host, fleet.http_port, request, 1) as one:
            starts = await idle.measure(lambda: one.send(1), fleet.ticks, sizes.idle_samples, self._randomness)
        for share, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
            ordered = sorted(starts)
            self._results.add(f"start_{name}", depth, ordered[max(0, round(share * len(ordered)) - 1)])
        for _ in range(sizes.repeats):
            enqueue = node.enqueue(self._batches, self._shard_ids, sizes.stretch_events, BATCH_EVENTS)
            self._note("accept", depth, await self._timed(sizes.stretch_events, enqueue))
            consume = node.consume(sizes.stretch_events, wire.succeeded(), leave=(LATE, BRIEF))
            self._note("drain", depth, await self._timed(sizes.stretch_events, consume))
            async with evenflow_load.connected(fleet) as ways:
                self._note("end_to_end", depth, await self._end_to_end(ways))
        report.add_memory(self._results, "memory", depth, processes.pss_bytes(fleet.pid("queue-0")))
        total = sum(shard.depth.depth for shard in await node.describe())
        self._results.add("depth", depth, total)

    async def _end_to_end(self, ways: Ways) -> Rate:
        return await evenflow_load.end_to_end(self._fleet, ways.grpc_batches, self._sizes.end_to_end_events)

    async def _timed(self, events: int, work: Awaitable[None]) -> Rate:
        pid = self._fleet.pid("queue-0")
        meter = Meter(lambda: {"queue": processes.cpu_seconds(pid)})
        await work
        return meter.stop(events)

    def _note(self, measure: str, depth: str, rate: Rate) -> None:
        self._results.add_rate(measure, depth, rate)
        spent = rate.cpu_us_per_event.get("queue", 0.0)
        self._say(f"  {measure}: {rate.per_second:,.0f} events/s, queue node {spent:.1f} us an event")

    async def _submit_brief(self) -> None:
        request = invoke_request(self._fleet.host, BRIEF, evenflow_load.PAYLOAD)
        async with HttpLoad(self._fleet.host, self._fleet.http_port, request, 16) as load:
            await load.send(BRIEF_EVENTS)

    async def _await_brief(self, node: NodeClient, submitted: float) -> None:
        """Events of a paused function end when their age is over: how late the last of them did."""
        self._say("waiting for the age of the brief events")
        end = submitted + BRIEF_AGE_SECONDS + EXPIRY_SECONDS
        while sum(shard.dead_letters for shard in await node.describe()) < BRIEF_EVENTS:
            if time.monotonic() > end:
                raise TimeoutError(f"{BRIEF_EVENTS} events were to end within {EXPIRY_SECONDS:.0f} s after their age")
            await asyncio.sleep(_POLL_SECONDS)
        lateness = []
        for shard_id in self._shard_ids:
            which = queue_pb2.DeadLetterFilter(tenant_id=TENANT, shard_id=shard_id, function_name=BRIEF)
            request = queue_pb2.ListDeadLettersRequest(filter=which, page_size=1_000)
            answer = await node.stub.ListDeadLetters(request, metadata=node.peer.metadata, timeout=10)
            lateness += [one.dead_at_ms - one.status.expires_at_ms for one in answer.dead_letters]
        self._results.add("expiry_late_ms", DEEP, max(lateness))

    async def _restart(self) -> None:
        """The queue node is killed: how long until it serves all of its shards again."""
        self._say("killing the queue node")
        began = time.monotonic()
        os.kill(self._fleet.pid("queue-0"), signal.SIGKILL)
        async with asyncio.timeout(RESTART_SECONDS):
            while True:
                await asyncio.sleep(_POLL_SECONDS)
                try:
                    shards = await self._node().describe()
                except Exception:
                    # Not there yet, in whatever way: the time-out bounds it.
                    continue
                serving = queue_pb2.SHARD_STATE_SERVING
                if len(shards) == len(self._shard_ids) and all(shard.depth.state == serving for shard in shards):
                    break
        self._results.add("restart_seconds", DEEP, time.monotonic() - began)


def folder_bytes(folder: Path) -> int:
    """Of all files below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
