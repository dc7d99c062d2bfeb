"""SQS mappings at moto's server: batches, filters, partial failures, throttles, bounds, and how one ends."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import control_pb2

from services.policy.filters import SqsFilter
from services.poller.settings import PollerSettings
from services.poller.sources.invoker import Call
from services.shared.errors import EvenflowError, Reason
from services.shared.metrics import Metrics
from tests.integration.poller.sqs_rig import LEASE_MS, Rig, bodies_of, records_of, succeeded
from tests.kit.aws_neighbour import ACCOUNT, CREDENTIALS, REGION, AwsNeighbour
from tests.kit.waiting import eventually


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, neighbour: AwsNeighbour) -> PollerSettings:
    folder = str(tmp_path_factory.mktemp("poller"))
    return PollerSettings(
        node_id="poller-0",
        data_dir=folder,
        run_dir=folder,
        token_file="",
        aws_endpoint_url=neighbour.endpoint_url,
        aws_region=REGION,
        retry_throttle_base_seconds=0.05,
        # No thread waits in a receive when a test ends; the e2e tests poll long.
        source_sqs_wait_seconds=0,
    )


@pytest.fixture(scope="module")
def metrics(settings: PollerSettings) -> Iterator[Metrics]:
    made = Metrics("poller", settings)
    yield made
    made.shutdown()


@pytest.fixture
async def rig(
    neighbour: AwsNeighbour, metrics: Metrics, settings: PollerSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    made = Rig(neighbour, metrics, settings)
    yield made
    await made.sources.stop()


async def test_a_batch_reaches_the_function_and_is_deleted_when_it_succeeded(rig: Rig) -> None:
    """Records as Lambda has them; the queue is empty afterwards and every message ran once."""
    url = rig.queue("plain")
    rig.sqs.send_message(
        QueueUrl=url,
        MessageBody="hello",
        MessageAttributes={"city": {"StringValue": "Oslo", "DataType": "String"}},
    )
    rig.map("plain")
    await rig.until_left(url, 0)
    [call] = rig.calls
    assert (call.tenant_id, call.function_name, call.qualifier, call.timeout_ms) == ("default", "drain", "", 1_000)
    [record] = records_of(call)
    assert record["body"] == "hello"
    assert record["messageAttributes"]["city"]["stringValue"] == "Oslo"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["eventSourceARN"] == f"arn:aws:sqs:{REGION}:{ACCOUNT}:plain"
    await eventually(lambda: (rig.counted("plain", "received"), rig.counted("plain", "deleted")) == (1, 1))
    [described] = rig.sources.describe()
    assert (described.kind, described.submitted_total, described.last_error) == ("sqs", 1, "")


async def test_batches_are_as_large_as_asked_for(rig: Rig) -> None:
    """25 messages and batches of 20, without a window: what is there at once runs together."""
    url = rig.queue("large")
    bodies = [f"m{n}" for n in range(25)]
    rig.send(url, *bodies)
    rig.map("large", batch_size=20)
    await rig.until_left(url, 0)
    assert sorted(body for call in rig.calls for body in bodies_of(call)) == sorted(bodies)
    assert max(len(bodies_of(call)) for call in rig.calls) > 10


async def test_a_window_gathers_what_comes_late(rig: Rig) -> None:
    """Messages of one second make one batch, though each was there when the queue was empty."""
    url = rig.queue("window")
    rig.map("window", batch_size=3, maximum_batching_window_seconds=20)
    for body in "abc":
        await asyncio.to_thread(rig.send, url, body)
    await rig.until_left(url, 0)
    assert [sorted(bodies_of(call)) for call in rig.calls] == [["a", "b", "c"]]


async def test_only_the_records_that_failed_come_back(rig: Rig) -> None:
    """With ReportBatchItemFailures, after the queue's own visibility timeout, not the longer one of the run."""
    url = rig.queue("partial", visibility_seconds=1)

    async def answer(call: Call) -> event_pb2.Outcome:
        if len(rig.calls) > 1:
            return succeeded(b"{}")
        failed = [{"itemIdentifier": r["messageId"]} for r in records_of(call) if r["body"] == "bad"]
        return succeeded(json.dumps({"batchItemFailures": failed}).encode())

    rig.answer = answer
    rig.send(url, "good", "bad", "fine")
    rig.map("partial", report_batch_item_failures=True)
    await rig.until_left(url, 0)
    assert [sorted(bodies_of(call)) for call in rig.calls] == [["bad", "fine", "good"], ["bad"]]
    assert rig.counted("partial", "failed") == 1


async def test_a_function_error_brings_the_whole_batch_back(rig: Rig) -> None:
    """Nothing is deleted before a success; receive counts grow, as redrive policies need it."""
    url = rig.queue("error", visibility_seconds=0)

    async def answer(call: Call) -> event_pb2.Outcome:
        if len(rig.calls) > 1:
            return succeeded()
        return event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR, error_type="Boom", error_message="no")

    rig.answer = answer
    rig.send(url, "a", "b")
    rig.map("error")
    await rig.until_left(url, 0)
    assert {r["attributes"]["ApproximateReceiveCount"] for call in rig.calls[1:] for r in records_of(call)} == {"2"}


async def test_records_that_do_not_match_are_deleted_unseen(rig: Rig) -> None:
    """As on AWS; the function gets the others."""
    url = rig.queue("filter")
    rig.send(url, '{"kind": "order"}', '{"kind": "offer"}', "text")
    rig.map("filter", filters=('{"body": {"kind": ["order"]}}',))
    await rig.until_left(url, 0)
    assert [body for call in rig.calls for body in bodies_of(call)] == ['{"kind": "order"}']
    await eventually(lambda: rig.counted("filter", "filtered") == 2)


async def test_large_messages_are_filtered_beside_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones on it; one that would take seconds is neither run nor deleted."""
    on: dict[int, str] = {}
    passes = SqsFilter.passes

    def seen(self: SqsFilter, record: Mapping[str, Any]) -> bool:
        on[len(record["body"])] = threading.current_thread().name
        return passes(self, record)

    monkeypatch.setattr(SqsFilter, "passes", seen)
    url = rig.queue("filtering")
    small, large = json.dumps({"k": [1] * 10 + [7]}), json.dumps({"k": [1] * 20_000 + [7]})
    costly = json.dumps({"o": [{}] * 60_000})
    rig.send(url, small)
    rig.send(url, large)
    rig.send(url, costly)
    objects = [{"x": [n]} for n in range(40)]
    rig.map("filtering", filters=(json.dumps({"body": {"$or": [{"k": [7]}, {"o": {"$or": objects}}]}}),))
    await rig.until_left(url, 1)
    assert {len(body) for call in rig.calls for body in bodies_of(call)} == {len(small), len(large)}
    assert rig.counted("filtering", "filter_too_costly") == 1
    assert on[len(small)] == threading.current_thread().name
    assert on[len(large)].startswith("sqs-filters") and on[len(costly)].startswith("sqs-filters")


async def test_a_throttled_batch_waits_and_is_received_once(rig: Rig) -> None:
    """It is tried again in place: the queue's receive count does not grow for a full function."""
    url = rig.queue("throttle")

    async def answer(call: Call) -> event_pb2.Outcome:
        if len(rig.calls) <= 3:
            raise EvenflowError(Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED, "full")
        return succeeded()

    rig.answer = answer
    rig.send(url, "a")
    rig.map("throttle")
    await rig.until_left(url, 0)
    assert [records_of(call)[0]["attributes"]["ApproximateReceiveCount"] for call in rig.calls] == ["1"] * 4
    await eventually(lambda: rig.sources.describe()[0].last_error == "")


async def test_a_chain_through_the_queue_is_told_on_and_stops_after_sixteen(rig: Rig) -> None:
    """By the trace header that a function's SDK gives its messages; what is stopped is left to the redrive policy."""
    url = rig.queue("circle")
    for depth in (3, 15):
        header = f"Root=1-6925a0a4-000000000000000000000001;Lineage=1:0a1b2c3d:{depth}"
        system = {"AWSTraceHeader": {"StringValue": header, "DataType": "String"}}
        rig.sqs.send_message(QueueUrl=url, MessageBody=str(depth), MessageSystemAttributes=system)
    rig.map("circle")
    await rig.until_left(url, 1)
    assert [body for call in rig.calls for body in bodies_of(call)] == ["3"]
    assert rig.calls[0].lineage is not None and rig.calls[0].lineage.chain_depth == 4
    assert rig.counted("circle", "recursion_stopped") == 1


async def test_maximum_concurrency_is_reached_and_never_exceeded(rig: Rig) -> None:
    """Two batches at once of a queue that has forty: no third one begins while they run, nor later."""
    url = rig.queue("narrow")
    running = highest = 0
    gate = asyncio.Event()

    async def answer(call: Call) -> event_pb2.Outcome:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await gate.wait()
        running -= 1
        return succeeded()

    rig.answer = answer
    rig.send(url, *(str(n) for n in range(40)))
    rig.map("narrow", batch_size=1, maximum_concurrency=2)
    await eventually(lambda: running == 2)
    # Time for others to begin, if they might.
    rounds = rig.sources.rounds
    await eventually(lambda: rig.sources.rounds > rounds + 10)
    assert running == 2
    gate.set()
    await rig.until_left(url, 0, 20.0)
    assert highest == 2
    assert len(rig.calls) == 40


async def test_an_event_never_exceeds_the_payload_limit(rig: Rig) -> None:
    """Messages that escaped JSON makes six times as large are split over several invocations; all of them run."""
    url = rig.queue("heavy", MaximumMessageSize="1048576")
    body = "\t\x7f\u20ac" * 40_000
    rig.send(url, body)
    big = "\n" * 200_000 + "\\" * 550_000
    for _ in range(6):
        rig.send(url, big)
    rig.map("heavy")
    await rig.until_left(url, 0, 20.0)
    assert max(len(call.payload) for call in rig.calls) <= 6_291_456
    assert sum(len(records_of(call)) for call in rig.calls) == 7
    await eventually(lambda: rig.kind._means.room.held_bytes == 0)


async def test_an_owner_that_ends_gives_back_what_it_has_not_begun(rig: Rig) -> None:
    """Revoked while a batch waits for a full function: the message is there at once for the next owner."""
    url = rig.queue("moved")
    rig.answer = full
    rig.send(url, "a")
    rig.map("moved")
    await eventually(lambda: rig.calls)
    rig.answer = None
    rig.sources.on_revoked(control_pb2.SourceRevoked(source_id="map-moved", epoch=1))
    await eventually(lambda: not rig.sources._retired)
    ran = len(rig.calls)
    rig.sources.on_lease(control_pb2.SourceLease(source_id="map-moved", epoch=2, lease_ms=LEASE_MS))
    await rig.until_left(url, 0)
    assert len(rig.calls) == ran + 1


async def test_a_batch_that_runs_when_the_poller_drains_is_still_settled(rig: Rig) -> None:
    """The poller waits for it; nothing new is received, and what ran does not run again."""
    url = rig.queue("drained")
    released = asyncio.Event()

    async def answer(call: Call) -> event_pb2.Outcome:
        await released.wait()
        return succeeded()

    rig.answer = answer
    rig.send(url, "a")
    rig.map("drained")
    await eventually(lambda: rig.calls)
    draining = asyncio.create_task(rig.sources.drain())
    await eventually(lambda: rig.sources._retired)
    await asyncio.to_thread(rig.send, url, "b")
    assert rig.kind.unsettled == 1
    released.set()
    await draining
    await eventually(lambda: rig.kind.unsettled == 0)
    assert [bodies_of(call) for call in rig.calls] == [["a"]]
    await rig.until_left(url, 1)


async def rounds_pass(rig: Rig, count: int) -> None:
    """Time for more to begin, if it might."""
    enough = rig.sources.rounds + count
    await eventually(lambda: rig.sources.rounds > enough)


async def full(call: Call) -> event_pb2.Outcome:
    raise EvenflowError(Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, "full")


async def test_a_run_of_unknown_end_is_not_repeated_before_its_visibility_timeout(rig: Rig) -> None:
    """The function may be running still: its messages stay invisible, and nothing is deleted."""
    url = rig.queue("unknown")

    async def answer(call: Call) -> event_pb2.Outcome:
        raise EvenflowError(Reason.ERROR_REASON_OUTCOME_UNKNOWN, "the connection broke")

    rig.answer = answer
    rig.send(url, "a")
    rig.map("unknown")
    await eventually(lambda: rig.counted("unknown", "failed") == 1)
    assert (len(rig.calls), await asyncio.to_thread(rig.left, url)) == (1, 1)


async def test_a_refusal_for_good_gives_the_records_back_when_the_queue_would(rig: Rig) -> None:
    """No such version any more: after the queue's own timeout, not after that of a run of 15 minutes."""
    rig.deploy(timeout_ms=900_000)
    url = rig.queue("refused", visibility_seconds=0)

    async def answer(call: Call) -> event_pb2.Outcome:
        if len(rig.calls) > 1:
            return succeeded()
        raise EvenflowError(Reason.ERROR_REASON_FUNCTION_NOT_FOUND, "no such version")

    rig.answer = answer
    rig.send(url, "a")
    rig.map("refused")
    await rig.until_left(url, 0)
    assert len(rig.calls) == 2


async def test_a_refusal_that_may_pass_waits_in_place(rig: Rig) -> None:
    """A frontend that cannot run it now: its records are received once, as when the function is full."""
    url = rig.queue("passing", visibility_seconds=0)

    async def answer(call: Call) -> event_pb2.Outcome:
        if len(rig.calls) > 2:
            return succeeded()
        raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "its package cannot be fetched now")

    rig.answer = answer
    rig.send(url, "a")
    rig.map("passing")
    await rig.until_left(url, 0)
    assert len(rig.calls) == 3
    assert records_of(rig.calls[-1])[0]["attributes"]["ApproximateReceiveCount"] == "1"


async def test_a_changed_mapping_counts_what_still_runs_of_it_as_it_was(rig: Rig) -> None:
    """Three changes while two batches run: never a third one beside them, and all run in the end."""
    url = rig.queue("changing")
    running = highest = 0
    gate = asyncio.Event()

    async def answer(call: Call) -> event_pb2.Outcome:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await gate.wait()
        running -= 1
        return succeeded()

    rig.answer = answer
    rig.send(url, *(str(n) for n in range(20)))
    rig.map("changing", batch_size=1, maximum_concurrency=2)
    await eventually(lambda: running == 2)
    for batch_size in (2, 3, 4):
        rig.map("changing", batch_size=batch_size, maximum_concurrency=2)
        await rounds_pass(rig, 10)
    assert running == 2
    gate.set()
    await rig.until_left(url, 0, 20.0)
    assert highest == 2


async def test_a_mapping_that_cannot_begin_does_not_stop_the_others(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Its filter is one that an older control let in: told once, seen in the description, tried again."""
    rig.map("broken", filters=("{",))
    url = rig.queue("sound")
    rig.send(url, "a")
    rig.map("sound")
    await rig.until_left(url, 0)
    errors = {one.source_id: one.last_error for one in rig.sources.describe()}
    assert "no JSON" in errors["map-broken"] and errors["map-sound"] == ""
    rig.sources._restart_ms.clear()
    rounds = rig.sources.rounds
    await eventually(lambda: rig.sources.rounds > rounds + 1)
    assert len([record for record in caplog.records if "cannot begin" in record.getMessage()]) == 1
    rig.queue("broken")
    rig.map("broken")
    rig.sources._restart_ms.clear()
    await eventually(lambda: {one.last_error for one in rig.sources.describe()} == {""})


async def test_a_queue_that_is_not_there_is_told_and_tried_again(rig: Rig) -> None:
    """Made later, it is drained."""
    rig.map("later")
    await eventually(lambda: "NonExistentQueue" in rig.sources.describe()[0].last_error)
    url = rig.queue("later")
    rig.send(url, "a")
    await rig.until_left(url, 0)
    await eventually(lambda: rig.sources.describe()[0].last_error == "")


async def test_a_short_visibility_timeout_is_told_and_made_up_for(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A queue of 1 s and a function of 20 s: a warning that says what to do, and the run has its time."""
    rig.deploy(timeout_ms=20_000)
    url = rig.queue("short", visibility_seconds=1)
    released = asyncio.Event()

    async def answer(call: Call) -> event_pb2.Outcome:
        await released.wait()
        return succeeded()

    rig.answer = answer
    rig.send(url, "a")
    rig.map("short")
    await eventually(lambda: rig.calls)
    # Longer than the queue's own timeout: the polls of a second each that found nothing.
    await eventually(lambda: any("six times" in record.message for record in caplog.records))
    attributes = rig.sqs.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessages"]
    )["Attributes"]
    assert attributes == {"ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessages": "0"}
    released.set()
    await rig.until_left(url, 0)
    assert len(rig.calls) == 1
