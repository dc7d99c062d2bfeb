"""The poller between real neighbours: retries, throttles, destinations, the end of chains, pauses, deaths."""

import asyncio
import json
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.poller.v1 import poller_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.shared import ids
from tests.integration.poller.rig import TENANT, Outcome, Rig, arn, failed, refused, succeeded
from tests.kit.waiting import eventually, until

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
Invocation = runtime_pb2.Invocation
Reason = errors_pb2.ErrorReason


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    """One fleet for all tests of this file; each has functions of its own."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    made = Rig(folder)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_failing_handler_is_tried_three_times_under_one_id(rig: Rig) -> None:
    """Then the event is a dead letter with the last error."""
    await rig.deploy("fails", lambda i: failed(f"try {i.attempt}"))
    request_id = await rig.submit("fails")
    event = await rig.ended(request_id, "dead")
    assert [i.attempt for i in rig.runs("fails", request_id)] == [1, 2, 3]
    assert (event.attempts, event.function_errors, event.throttles) == (3, 3, 0)
    assert event.condition == event_pb2.CONDITION_RETRIES_EXHAUSTED
    assert (event.error_type, event.error_message) == ("ValueError", "try 3")


async def test_throttles_do_not_count_as_attempts(rig: Rig) -> None:
    """Two throttles and a system error, then it runs as attempt 1."""
    answers = [
        refused(Reason.ERROR_REASON_CONCURRENCY_EXCEEDED),
        refused(Reason.ERROR_REASON_CONCURRENCY_EXCEEDED),
        refused(Reason.ERROR_REASON_INTERNAL),
        succeeded(),
    ]
    await rig.deploy("throttled", lambda i: answers.pop(0))
    request_id = await rig.submit("throttled")
    event = await rig.ended(request_id, "succeeded")
    assert [i.attempt for i in rig.runs("throttled")] == [1, 1, 1, 1]
    assert (event.attempts, event.throttles) == (1, 3)


async def test_a_host_without_room_is_nobodys_fault(rig: Rig) -> None:
    """NO_CAPACITY: it comes back, and no counter has grown."""
    answers = [refused(Reason.ERROR_REASON_NO_CAPACITY), succeeded()]
    await rig.deploy("crowded", lambda i: answers.pop(0))
    event = await rig.ended(await rig.submit("crowded"), "succeeded")
    assert (event.attempts, event.throttles, event.deliveries) == (1, 0, 0)


async def test_a_success_goes_to_its_destination_with_the_exact_record(rig: Rig) -> None:
    """The chained event has the parent's id in its lineage and the record as its payload."""
    await rig.deploy("next", lambda i: succeeded())
    await rig.deploy("first", lambda i: succeeded(b'{"x": [1]}'), on_success="next")
    request_id = await rig.submit("first", b'{"in":  true}')
    event = await rig.ended(request_id, "succeeded")
    assert event.destination_arn == arn("next")
    (chained,) = await eventually(lambda: rig.runs("next"))
    assert chained.lineage.parent_request_id == request_id
    assert chained.lineage.chain_depth == 1
    assert b'"requestPayload":{"in":  true}' in chained.payload
    record = json.loads(chained.payload)
    assert record.pop("timestamp") == "2023-11-14T22:13:20.001Z"
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": ids.to_text(request_id),
            "functionArn": arn("first") + ":$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"in": True},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"x": [1]},
    }
    await rig.ended(chained.request_id, "succeeded")


async def test_a_failure_goes_to_its_destination_and_is_no_dead_letter(rig: Rig) -> None:
    """State failed; the record counts the runs and says Unhandled."""
    await rig.deploy("mourner", lambda i: succeeded())
    await rig.deploy("broken", lambda i: failed(), on_failure="mourner", retries=1)
    event = await rig.ended(await rig.submit("broken"), "failed")
    assert event.destination_arn == arn("mourner")
    (chained,) = await eventually(lambda: rig.runs("mourner"))
    record = json.loads(chained.payload)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert record["responsePayload"]["errorType"] == "ValueError"


async def test_a_destination_that_is_not_there_ends_in_the_dead_letters(rig: Rig) -> None:
    """The handler is not run again for it."""
    await rig.deploy("lonely", lambda i: succeeded(), on_success="nobody")
    request_id = await rig.submit("lonely")
    event = await rig.ended(request_id, "dead")
    assert event.error_type == "DestinationDeliveryFailure"
    assert "nobody" in event.error_message
    assert len(rig.runs("lonely", request_id)) == 1
    assert event.attempts == 1


async def test_a_chain_stops_after_its_16th_invocation(rig: Rig) -> None:
    """Two functions that are each other's destination."""
    await rig.deploy("ping", lambda i: succeeded(), on_success="pong")
    await rig.deploy("pong", lambda i: succeeded(), on_success="ping")
    await rig.submit("ping")
    await eventually(lambda: len(rig.runs("ping")) + len(rig.runs("pong")) == 16, 15)
    depths = sorted(i.lineage.chain_depth for i in (*rig.runs("ping"), *rig.runs("pong")))
    assert depths == list(range(16))
    last = max(rig.runs("pong"), key=lambda i: i.lineage.chain_depth)
    # Its record was delivered; the event made of it is stopped without a run.
    await rig.ended(last.request_id, "succeeded")
    await asyncio.sleep(0.2)
    assert len(rig.runs("ping")) + len(rig.runs("pong")) == 16


async def test_zero_reserved_concurrency_ends_events_without_a_run(rig: Rig) -> None:
    """Straight to the dead letters, with its own condition."""
    await rig.deploy("closed", lambda i: succeeded(), reserved=0)
    event = await rig.ended(await rig.submit("closed"), "dead")
    assert event.condition == event_pb2.CONDITION_ZERO_RESERVED_CONCURRENCY
    assert event.attempts == 0
    assert rig.runs("closed") == []


async def test_a_paused_function_stays_in_its_shard_and_a_deleted_one_ends(rig: Rig) -> None:
    """Nothing runs while paused; others do; after the deletion its events end by themselves."""
    pause = poller_pb2.PauseFunctionRequest(tenant_id=TENANT, function_name="paused", paused=True)
    await rig.deploy("paused", lambda i: succeeded())
    await rig.deploy("other", lambda i: succeeded())
    await rig.poller.PauseFunction(pause, metadata=rig.metadata)
    described = await rig.poller.DescribePoller(poller_pb2.DescribePollerRequest(), metadata=rig.metadata)
    assert [p.function_name for p in described.paused_functions] == ["paused"]
    first = await rig.submit("paused")
    for _ in range(3):
        await rig.ended(await rig.submit("other"), "succeeded")
    assert (await rig.event(first)).state == "available"
    pause.paused = False
    await rig.poller.PauseFunction(pause, metadata=rig.metadata)
    await rig.ended(first, "succeeded")
    pause.paused = True
    await rig.poller.PauseFunction(pause, metadata=rig.metadata)
    second = await rig.submit("paused")
    await rig.delete("paused")
    pause.paused = False
    await rig.poller.PauseFunction(pause, metadata=rig.metadata)
    event = await rig.ended(second, "dead")
    assert event.condition == event_pb2.CONDITION_FUNCTION_NOT_FOUND
    assert len(rig.runs("paused")) == 1


async def test_a_full_function_does_not_hold_up_another(rig: Rig) -> None:
    """Reserved 2: a few are leased, the rest waits in the shards, and its neighbour runs at once."""
    held: list[Invocation] = []

    def hold(invocation: Invocation) -> None:
        held.append(invocation)

    await rig.deploy("full", hold, reserved=2)
    await rig.deploy("free", lambda i: succeeded())
    # The poller hears of the reservation before it leases.
    await asyncio.sleep(0.1)
    events = [await rig.submit("full") for _ in range(40)]
    await eventually(lambda: len(held) >= 2)
    await rig.ended(await rig.submit("free"), "succeeded", 3)
    assert len(held) <= 4
    rig.behaviours["full"] = lambda i: succeeded()
    for invocation in list(held):
        rig.host.finish(invocation.invocation_id, succeeded())
    for request_id in events:
        await rig.ended(request_id, "succeeded")
    # Those that had to wait in their shards count as throttles, once each; the first two did not.
    passed_over = rig.metric("poller-0", "Throttles_total", function="full")
    assert 30 <= passed_over <= 38
    assert rig.metric("poller-0", "Throttles_total", function="free") == 0


async def test_a_broken_stream_runs_the_event_again(rig: Rig) -> None:
    """The outcome is not known: no attempt is counted, and it is run once more."""
    cut = [True]

    def behave(invocation: Invocation) -> Outcome:
        if cut:
            cut.clear()
            raise ConnectionError("cut by the test")
        return succeeded()

    await rig.deploy("cut", behave)
    request_id = await rig.submit("cut")
    event = await rig.ended(request_id, "succeeded")
    assert [i.attempt for i in rig.runs("cut", request_id)] == [1, 1]
    assert (event.attempts, event.throttles) == (1, 1)


async def test_a_killed_poller_loses_nothing(rig: Rig) -> None:
    """What it held is run by its next incarnation, without waiting for the visibility timeout."""
    held: list[Invocation] = []

    def hold(invocation: Invocation) -> None:
        held.append(invocation)

    await rig.deploy("held", hold)
    events = [await rig.submit("held") for _ in range(20)]
    await eventually(lambda: len(held) == 20)
    rig.processes.kill("poller-0")
    rig.behaviours["held"] = lambda i: succeeded()
    rig.processes.restart("poller-0")
    for request_id in events:
        event = await rig.ended(request_id, "succeeded", 5)
        assert (event.attempts, event.deliveries) == (1, 1)


async def test_a_delivery_goes_on_after_a_crash_without_running_the_handler_again(rig: Rig) -> None:
    """The handover is durable: the record is delivered once by the next poller."""
    await rig.deploy("heir", lambda i: succeeded())
    held: list[Invocation] = []

    def hold(invocation: Invocation) -> None:
        held.append(invocation)

    await rig.deploy("testator", hold, on_success="heir")
    request_id = await rig.submit("testator")
    await eventually(lambda: held)
    rig.processes.kill("frontend-0")
    rig.host.finish(held[0].invocation_id, succeeded(b'"estate"'))

    async def is_delivering() -> bool:
        described = await rig.poller.DescribePoller(poller_pb2.DescribePollerRequest(), metadata=rig.metadata)
        return bool(described.deliveries_in_flight)

    await until(is_delivering)
    rig.processes.kill("poller-0")
    rig.processes.restart("frontend-0")
    rig.processes.restart("poller-0")
    await rig.ended(request_id, "succeeded")
    (chained,) = await eventually(lambda: rig.runs("heir"))
    assert json.loads(chained.payload)["responsePayload"] == "estate"
    assert len(rig.runs("testator")) == 1
    await rig.ended(chained.request_id, "succeeded")
    assert len(rig.runs("heir")) == 1


async def test_a_drained_poller_settles_what_runs_and_gives_the_rest_back(rig: Rig) -> None:
    """SIGTERM: exit 0 once the run in flight has ended; what waited was never begun."""
    held: list[Invocation] = []

    def hold(invocation: Invocation) -> None:
        held.append(invocation)

    await rig.deploy("slow", hold)
    running = await rig.submit("slow")
    await eventually(lambda: held)
    rig.processes.signal("poller-0", signal.SIGTERM)
    await eventually(lambda: '"draining"' in (rig.processes.folder / "poller-0.log").read_text())
    later = await rig.submit("slow")
    rig.host.finish(held[0].invocation_id, succeeded())
    assert await asyncio.to_thread(rig.processes.wait, "poller-0") == 0
    assert (await rig.event(running)).state == "succeeded"
    assert (await rig.event(later)).state == "available"
    rig.behaviours["slow"] = lambda i: succeeded()
    rig.processes.restart("poller-0")
    event = await rig.ended(later, "succeeded")
    assert event.deliveries == 0


async def test_events_wait_for_a_host(rig: Rig) -> None:
    """Without one they stay; when one joins they run, and no counter has grown."""
    await rig.deploy("patient", lambda i: succeeded())
    await rig.leave()
    await eventually(lambda: rig.host.callers == 0)
    request_id = await rig.submit("patient")

    async def was_given_back() -> bool:
        # It was leased, found no host for its time, and waits in its shard again.
        return (await rig.event(request_id)).state == "delayed"

    await until(was_given_back)
    await rig.join()
    event = await rig.ended(request_id, "succeeded")
    assert (event.attempts, event.throttles, event.deliveries) == (1, 0, 0)
