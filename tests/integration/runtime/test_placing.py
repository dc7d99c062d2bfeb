"""Which invocation runs when and where: scaling, shares, eviction, revisions, refusals, the end."""

import asyncio
import os
from pathlib import Path

import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.shared.metrics import LAMBDA_METRICS
from tests.integration.runtime.kit import TENANT, TRACEPARENT, HostKit, zipped
from tests.kit.waiting import eventually

S = event_pb2.OutcomeStatus
R = errors_pb2.ErrorReason
ASYNC = runtime_pb2.INVOCATION_KIND_ASYNC
# Waits until as many as the event says are inside at once, so that only real concurrency lets it end.
MEET = """
import os, time, pathlib
def handler(event, context):
    meeting = pathlib.Path(os.environ["EVENFLOW_BUCKET_MEET"])
    (meeting / context.aws_request_id).touch()
    while len(list(meeting.iterdir())) < event:
        time.sleep(0.002)
"""
SLEEP = "import time\ndef handler(event, context):\n    time.sleep(event)\n"


@pytest.mark.parametrize("kind", [runtime_pb2.INVOCATION_KIND_SYNC, ASYNC])
async def test_sleeping_handlers_scale_out(run_dir: Path, kind: int) -> None:
    """Twelve that wait for each other all run at once, whoever waits for them."""
    from evenflow.control.v1 import resources_pb2

    async with HostKit(run_dir, max_wait_ms=20_000) as kit:
        kit.deploy("meet", MEET, buckets=[resources_pb2.BucketGrant(bucket="meet", writable=True)])
        outcomes = await asyncio.gather(*(kit.invoke("meet", 12, kind=kind) for _ in range(12)))
        assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED}
        assert len({o.sandbox_id for o in outcomes}) == 12


async def test_short_handlers_stay_on_few_sandboxes(run_dir: Path) -> None:
    """Hundreds of no-ops from a queue do not start a sandbox each."""
    async with HostKit(run_dir, max_wait_ms=20_000) as kit:
        kit.deploy("noop", "def handler(event, context):\n    pass\n")
        outcomes = await asyncio.gather(*(kit.invoke("noop", kind=ASYNC) for _ in range(500)))
        assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED}
        assert len({o.sandbox_id for o in outcomes}) <= 8


async def test_nothing_runs_beyond_the_share_and_nothing_before_it_is_told(run_dir: Path) -> None:
    """No target: all wait. Two: two at once. Reports follow, downwards only as runs end."""
    async with HostKit(run_dir, account_share=0, max_wait_ms=20_000) as kit:
        kit.deploy("sleep", SLEEP)
        waiting = [kit.begin(kit.invocation("sleep", 0.15)) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert kit.host.dispatcher.busy == 0 and not kit.pids()
        kit.shares.set_target("account", 2)
        kit.host.dispatcher.shares_changed()
        await eventually(lambda: kit.host.dispatcher.busy == 2)
        most = 0
        while not all(future.done() for future in waiting):
            most = max(most, kit.host.dispatcher.busy)
            await asyncio.sleep(0.002)
        assert most == 2
        held = kit.begin(kit.invocation("sleep", 0.2))
        await eventually(lambda: kit.host.dispatcher.busy == 1)
        kit.shares.set_target("account", 0)
        assert kit.reported == [("account", 2), ("account", 1)]
        assert (await held).status == S.OUTCOME_STATUS_SUCCEEDED
        assert kit.reported[-1] == ("account", 0)


async def test_throttles_have_their_reason(run_dir: Path) -> None:
    """Reserved zero at once; reserved in use and the account's share in use after the wait."""
    async with HostKit(run_dir, account_share=1) as kit:
        kit.deploy("closed", SLEEP, reserved_concurrency=0)
        kit.deploy("reserved", SLEEP, reserved_concurrency=1)
        kit.deploy("plain", SLEEP)
        kit.shares.set_target(f"function/{TENANT}/reserved", 1)
        outcome = await kit.invoke("closed", 0)
        assert outcome.status == S.OUTCOME_STATUS_THROTTLED
        assert outcome.refusal.reason == R.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED
        for name, reason in (
            ("reserved", R.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED),
            ("plain", R.ERROR_REASON_CONCURRENCY_EXCEEDED),
        ):
            first = kit.begin(kit.invocation(name, 0.5))
            await eventually(lambda: kit.host.dispatcher.busy)
            outcome = await kit.invoke(name, 0, max_wait_ms=60)
            assert (outcome.status, outcome.refusal.reason) == (S.OUTCOME_STATUS_THROTTLED, reason)
            assert outcome.refusal.retry_after_ms > 0 and not outcome.executed_version
            await first


async def test_no_slot_is_no_capacity_and_an_idle_sandbox_of_another_is_evicted(run_dir: Path) -> None:
    """The least recently used idle one goes; when all are busy the wait is bounded."""
    async with HostKit(run_dir, max_sandboxes=2) as kit:
        for name in ("a", "b", "c"):
            kit.deploy(name, SLEEP)
        await kit.invoke("a", 0)
        await kit.invoke("b", 0)
        await kit.invoke("c", 0)
        alive = {s.function.key[1] for s in kit.host.dispatcher.nursery.sandboxes.values()}
        assert alive == {"b", "c"}
        busy = [kit.begin(kit.invocation(name, 0.5)) for name in ("b", "c")]
        outcome = await kit.invoke("a", 0, max_wait_ms=50)
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert outcome.refusal.reason == R.ERROR_REASON_NO_CAPACITY
        await asyncio.gather(*busy)


async def test_a_function_without_sandbox_is_not_starved(run_dir: Path) -> None:
    """One busy function with an endless backlog gives a slot to another."""
    async with HostKit(run_dir, max_sandboxes=1, max_wait_ms=30_000) as kit:
        kit.deploy("greedy", SLEEP)
        kit.deploy("small", SLEEP)
        backlog = [kit.begin(kit.invocation("greedy", 0.02, kind=ASYNC)) for _ in range(100)]
        await eventually(lambda: kit.host.dispatcher.busy)
        assert (await kit.invoke("small", 0)).status == S.OUTCOME_STATUS_SUCCEEDED
        assert sum(not future.done() for future in backlog) > 50
        await asyncio.gather(*backlog)


async def test_idle_sandboxes_end_after_their_time(run_dir: Path) -> None:
    """With their processes and their /tmp."""
    async with HostKit(run_dir, idle_seconds=0.1) as kit:
        kit.deploy("a", SLEEP)
        await kit.invoke("a", 0)
        pids = kit.pids()
        await eventually(lambda: not kit.pids())
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
        await eventually(lambda: not kit.host.dispatcher.functions())


async def test_a_new_revision_replaces_what_is_warm(run_dir: Path) -> None:
    """Idle sandboxes of the old code end; a busy one finishes its run on the old code."""
    async with HostKit(run_dir) as kit:
        kit.deploy("f", "import time\ndef handler(event, context):\n    time.sleep(event)\n    return 1\n")
        assert await kit.call("f", 0) == 1
        old = kit.begin(kit.invocation("f", 0.2))
        kit.deploy("f", "def handler(event, context):\n    return 2\n")
        assert await kit.call("f", 0) == 2
        assert (await old).response_payload == b"1"
        await eventually(lambda: len(kit.pids()) == 1)


async def test_an_unknown_or_newer_function_is_asked_for_once(run_dir: Path) -> None:
    """Create-then-invoke never races; many callers ask once."""
    async with HostKit(run_dir) as kit:
        function = kit.deploy("late", "def handler(event, context):\n    return 1\n")
        kit.configuration.control[TENANT, "late"] = function
        del kit.configuration.view.functions[TENANT, "late"]
        outcomes = await asyncio.gather(*(kit.invoke("late") for _ in range(5)))
        assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED} and kit.configuration.asked == 1
        outcome = await kit.invoke("nobody")
        assert outcome.refusal.reason == R.ERROR_REASON_FUNCTION_NOT_FOUND
        outcome = await kit.invoke("late", version="7")
        assert outcome.refusal.reason == R.ERROR_REASON_FUNCTION_NOT_FOUND


async def test_packages_that_cannot_be_had(run_dir: Path) -> None:
    """A refusal with the reason; nothing counts as an attempt."""
    async with HostKit(run_dir) as kit:
        kit.deploy("evil", zipped({"../evil.py": "x"}))
        outcome = await kit.invoke("evil")
        assert outcome.status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert outcome.refusal.reason == R.ERROR_REASON_INVALID_PACKAGE and "'../evil.py'" in outcome.error_message
        kit.deploy("gone", SLEEP)
        kit.packages.clear()
        assert (await kit.invoke("gone", 0)).refusal.reason == R.ERROR_REASON_UNAVAILABLE
        kit.deploy("other", SLEEP, runtime="ruby3.3")
        assert (await kit.invoke("other", 0)).refusal.reason == R.ERROR_REASON_RUNTIME_UNSUPPORTED


async def test_spans_of_a_cold_and_of_a_failed_run(run_dir: Path) -> None:
    """runtime.invoke under the caller's span, sandbox.init only when cold, failures kept although not sampled."""
    async with HostKit(run_dir) as kit:
        kit.deploy("f", "def handler(event, context):\n    return 1 / event\n")
        await kit.invoke("f", 1, trace=event_pb2.TraceContext(traceparent=TRACEPARENT))
        await kit.invoke("f", 1, trace=event_pb2.TraceContext(traceparent=TRACEPARENT))
        await kit.invoke("f", 1, trace=event_pb2.TraceContext(traceparent=TRACEPARENT[:-2] + "00"))
        await kit.invoke("f", 0, trace=event_pb2.TraceContext(traceparent=TRACEPARENT[:-2] + "00"))
        kit.tracer.shutdown()
        names = [span.name for span in kit.spans.get_finished_spans()]
        assert names == [
            "runtime.invoke", "sandbox.init", "sandbox.handler",
            "runtime.invoke", "sandbox.handler",
            "runtime.invoke", "sandbox.handler",
        ]  # fmt: skip
        first = kit.spans.get_finished_spans()[0]
        assert first.parent is not None and f"{first.parent.span_id:016x}" == TRACEPARENT[36:52]
        assert first.attributes is not None and first.attributes["faas.coldstart"] is True
        assert "ConcurrentExecutions" in LAMBDA_METRICS


async def test_drain_lets_runs_end_and_refuses_the_rest(run_dir: Path) -> None:
    """What runs comes to its end, what waits and what comes is told to go elsewhere."""
    async with HostKit(run_dir, account_share=1) as kit:
        kit.deploy("f", SLEEP)
        running = kit.begin(kit.invocation("f", 0.3))
        await eventually(lambda: kit.host.dispatcher.busy)
        waiting = kit.begin(kit.invocation("f", 0))
        await kit.host.drain()
        assert running.result().status == S.OUTCOME_STATUS_SUCCEEDED
        assert waiting.result().refusal.reason == R.ERROR_REASON_DRAINING
        assert (await kit.invoke("f", 0)).refusal.reason == R.ERROR_REASON_DRAINING


async def test_a_share_goes_to_who_crowds_the_host_least(run_dir: Path) -> None:
    """Not in turns: three events of one function do not each wait for one more of a backlog."""
    async with HostKit(run_dir, account_share=1, max_wait_ms=20_000) as kit:
        for name in ("quiet", "noisy"):
            kit.deploy(name, SLEEP)
            # Its sandbox is there before it is needed.
            assert (await kit.invoke(name, 0)).status == S.OUTCOME_STATUS_SUCCEEDED
        ended: list[str] = []

        def begin(name: str) -> "asyncio.Future[event_pb2.Outcome]":
            future = kit.begin(kit.invocation(name, 0.02, kind=ASYNC))
            future.add_done_callback(lambda _done: ended.append(name))
            return future

        backlog = [begin("noisy") for _ in range(20)]
        await eventually(lambda: kit.host.dispatcher.busy == 1)
        before = len(ended)
        await asyncio.gather(*(begin("quiet") for _ in range(3)))
        # The one that ran when they came, and nothing between them.
        assert ended[before:].count("noisy") <= 1, ended
        outcomes = await asyncio.gather(*backlog)
        assert {o.status for o in outcomes} == {S.OUTCOME_STATUS_SUCCEEDED}
