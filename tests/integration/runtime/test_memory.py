"""The memory budget: never exceeded, others' idle sandboxes give way, a large function gets its turn."""

import asyncio
import time
from pathlib import Path

from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.runtime.nursery import Nursery
from services.runtime.runs import Run
from tests.integration.runtime.kit import HostKit
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
R = errors_pb2.ErrorReason
ASYNC = runtime_pb2.INVOCATION_KIND_ASYNC
# Until a moment of the wall clock, so that several end at once.
UNTIL = "import time\ndef handler(event, context):\n    time.sleep(max(0.0, event - time.time()))\n"
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n"


def evictions(kit: HostKit, cause: str) -> int:
    """Counted until now."""
    return int(kit.host.telemetry.evictions.value(cause=cause))


async def watch(nursery: Nursery, seen: list[int]) -> None:
    """Note what is taken of the budget, again and again."""
    while True:
        alive = list(nursery.sandboxes.values())
        assert sum(s.memory_mb for s in alive) == nursery.census.memory_mb
        seen.append(nursery.census.memory_mb)
        await asyncio.sleep(0.001)


async def test_the_budget_holds_while_many_functions_take_turns(run_dir: Path) -> None:
    """60 functions on memory for 5: no error, never a megabyte more, evictions say that memory was the cause."""
    async with HostKit(run_dir, memory_mb=640, max_wait_ms=30_000) as kit:
        names = [f"f{n}" for n in range(60)]
        for name in names:
            kit.deploy(name, "def handler(event, context):\n    return event\n")
        seen: list[int] = []
        watching = asyncio.create_task(watch(kit.host.dispatcher.nursery, seen))
        for _round in range(3):
            for at in range(0, len(names), 10):
                outcomes = await asyncio.gather(*(kit.invoke(name, name) for name in names[at : at + 10]))
                assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED}
        assert not watching.done()
        watching.cancel()
        assert 512 <= max(seen) <= 640
        assert evictions(kit, "memory") >= 170
        assert kit.host.dispatcher.memory_mb()["budget"] == 640


async def test_as_many_as_needed_give_way_the_least_recently_used_first(run_dir: Path) -> None:
    """Three of four small ones for one that needs three times as much; the newest stays."""
    async with HostKit(run_dir, memory_mb=512) as kit:
        for name in ("a", "b", "c", "d"):
            kit.deploy(name, SLEEP)
            await kit.invoke(name, 0)
        await kit.invoke("a", 0)
        kit.deploy("big", SLEEP, memory_mb=384)
        assert (await kit.invoke("big", 0)).status == S.OUTCOME_STATUS_SUCCEEDED
        alive = {s.function.key[1] for s in kit.host.dispatcher.nursery.sandboxes.values()}
        assert alive == {"a", "big"}


async def test_a_function_larger_than_the_budget_is_refused_with_what_to_do(run_dir: Path) -> None:
    """At once, and others run."""
    async with HostKit(run_dir, memory_mb=512, max_wait_ms=60_000) as kit:
        kit.deploy("huge", SLEEP, memory_mb=1_024)
        kit.deploy("small", SLEEP)
        outcome = await kit.invoke("huge", 0)
        assert outcome.refusal.reason == R.ERROR_REASON_NO_CAPACITY
        assert "needs 1024 MB" in outcome.error_message and "EVENFLOW_RUNTIME_MEMORY_MB" in outcome.error_message
        assert (await kit.invoke("small", 0)).status == S.OUTCOME_STATUS_SUCCEEDED


async def test_a_stream_of_small_ones_does_not_starve_a_large_one(run_dir: Path) -> None:
    """Room that comes free is kept for the first in line, though each of the small ones would fit at once."""
    async with HostKit(run_dir, memory_mb=1_024, max_wait_ms=30_000) as kit:
        for number in range(16):
            kit.deploy(f"small{number}", SLEEP)
        kit.deploy("big", SLEEP, memory_mb=1_024)
        ended: list[str] = []

        async def endless(number: int) -> None:
            while "big" not in ended:
                assert (await kit.invoke(f"small{number}", 0.05)).status == S.OUTCOME_STATUS_SUCCEEDED
                ended.append("small")

        streams = [asyncio.create_task(endless(number)) for number in range(16)]
        await eventually(lambda: kit.host.dispatcher.busy >= 4 and kit.host.dispatcher.waiting >= 4)
        before = len(ended)
        outcome = await kit.invoke("big", 0)
        ended.append("big")
        assert outcome.status == S.OUTCOME_STATUS_SUCCEEDED
        # Those that ran, and those that stood in line before it.
        # Those that ran, and those that stood in line before it, some of them twice while room was made; 30 s of the
        # stream would be thousands.
        assert len(ended) - before <= 100, len(ended) - before
        await asyncio.gather(*streams)


async def test_a_backlog_gives_its_memory_to_one_with_nothing(run_dir: Path) -> None:
    """Several sandboxes of a busy function are ended for a larger one, not more than make its room."""
    async with HostKit(run_dir, memory_mb=512, max_wait_ms=30_000) as kit:
        kit.deploy("greedy", UNTIL)
        kit.deploy("other", SLEEP, memory_mb=256)
        until = time.time() + 1.0
        backlog = [kit.begin(kit.invocation("greedy", until, kind=ASYNC)) for _ in range(4)]
        await eventually(lambda: kit.host.dispatcher.busy == 4)
        backlog += [kit.begin(kit.invocation("greedy", until + 3.0, kind=ASYNC)) for _ in range(8)]
        assert (await kit.invoke("other", 0)).status == S.OUTCOME_STATUS_SUCCEEDED
        assert evictions(kit, "memory") == 2
        assert sum(future.done() for future in backlog) == 4
        outcomes = await asyncio.gather(*backlog)
        assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED}


async def test_withdrawn_runs_do_not_hold_up_the_line(run_dir: Path) -> None:
    """Whoever stood first and is not wanted any more lets the next one start."""
    async with HostKit(run_dir, memory_mb=256, max_wait_ms=30_000) as kit:
        for name, size in (("busy", 128), ("big", 256), ("small", 128)):
            kit.deploy(name, SLEEP, memory_mb=size)
        busy = kit.begin(kit.invocation("busy", 1.0))
        await eventually(lambda: kit.host.dispatcher.busy)
        gone = Run(kit.invocation("big", 0), lambda _run, _outcome: None, 0)
        kit.host.dispatcher.submit(gone)
        waiting = kit.begin(kit.invocation("small", 0))
        kit.host.dispatcher.withdraw({gone})
        assert (await waiting).status == S.OUTCOME_STATUS_SUCCEEDED
        # It started in the room that had been kept for the other, before any more came free.
        assert not busy.done()
        await busy
