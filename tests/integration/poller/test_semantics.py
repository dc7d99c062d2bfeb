"""What AWS Lambda does with an asynchronous event from its first run to its last record: one row for each sentence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from evenflow.common.v1 import errors_pb2, event_pb2

from services.shared import ids
from tests.integration.poller.mailbox import Mailbox
from tests.integration.poller.rig import Outcome, Rig, arn, failed, refused, succeeded
from tests.kit.aws_neighbour import AwsNeighbour

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
Reason = errors_pb2.ErrorReason
PAYLOAD = b'{"order":  [1, 2]}'


def timed_out() -> Outcome:
    """What a host says of a run that took too long."""
    outcome = failed("RequestId: 1 Error: Task timed out after 1.00 seconds")
    outcome.error_type = "Sandbox.Timedout"
    return outcome


throttled = refused(Reason.ERROR_REASON_CONCURRENCY_EXCEEDED)
broken = refused(Reason.ERROR_REASON_INTERNAL)


@dataclass(frozen=True)
class Row:
    """One sentence, and a function that shows it: what its runs answer, and what is told of its event at the end.

    The last answer is given again and again. `attempts`: those that the host saw. `told`: the mailboxes that get
    something: "success" and "failure" are destinations, "dead" is the dead-letter queue.
    """

    says: str
    answers: tuple[Outcome, ...]
    attempts: tuple[int, ...]
    condition: str
    told: tuple[str, ...]
    count: int
    error: tuple[str, str] = ("", "")
    function: Callable[[], dict[str, Any]] = dict
    qualifier: str = "$LATEST"
    depth: int = 0


ROWS = (
    Row(
        "A function error is tried twice more by default; then the failure destination gets the record",
        (failed("one"), failed("two"), failed("three")), (1, 2, 3), "RetriesExhausted", ("failure",), 3,
    ),
    Row(
        "MaximumRetryAttempts 0 ends the event with its first error",
        (failed(),), (1,), "RetriesExhausted", ("failure",), 1, function=lambda: {"retries": 0},
    ),
    Row(
        "MaximumRetryAttempts 1 allows one more attempt",
        (failed(),), (1, 2), "RetriesExhausted", ("failure",), 2, function=lambda: {"retries": 1},
    ),
    Row(
        "A time-out is a function error",
        (timed_out(),), (1, 2, 3), "RetriesExhausted", ("failure",), 3,
    ),
    Row(
        "A success after an error is a success: the success destination gets it, with the count of all attempts",
        (failed(), succeeded(b'{"ok":1}')), (1, 2), "Success", ("success",), 2,
    ),
    Row(
        "Throttles and system errors are outside the count of attempts",
        (throttled, broken, throttled, succeeded(b"1")), (1, 1, 1, 1), "Success", ("success",), 1,
    ),
    Row(
        "Throttles between errors use up no attempt",
        (failed(), throttled, failed(), broken, failed()), (1, 2, 2, 3, 3), "RetriesExhausted", ("failure",), 3,
    ),
    Row(
        "Reserved concurrency 0 goes straight to the destination: count 0, no response fields",
        (succeeded(),), (), "ZeroReservedConcurrency", ("failure",), 0, function=lambda: {"reserved": 0},
    ),
    Row(
        "The dead-letter queue gets the event itself with RequestID, ErrorCode 200 and the error's message",
        (failed("because"),), (1,), "RetriesExhausted", ("dead",), 1, ("200", "because"),
        function=lambda: {"retries": 0},
    ),
    Row(
        "ErrorMessage is the first KB of the message",
        (failed("x" * 3_000),), (1,), "RetriesExhausted", ("dead",), 1, ("200", "x" * 1_024),
        function=lambda: {"retries": 0},
    ),
    Row(
        "With both, the destination gets the record and the dead-letter queue the event",
        (failed("both"),), (1,), "RetriesExhausted", ("failure", "dead"), 1, ("200", "both"),
        function=lambda: {"retries": 0},
    ),
    Row(
        "Reserved concurrency 0 goes straight to the dead-letter queue",
        (succeeded(),), (), "ZeroReservedConcurrency", ("dead",), 0, ("429", "Rate Exceeded."),
        function=lambda: {"reserved": 0},
    ),
    Row(
        "A dead-letter queue gets no successes",
        (succeeded(),), (1,), "Success", ("success",), 1, function=lambda: {"dead_letters": "dead"},
    ),
    Row(
        "A chain stops after 16 invocations: the next event goes to its destination and its dead-letter queue unrun",
        (succeeded(),), (), "RecursionStopped", ("failure", "dead"), 0,
        ("400", "The chain of functions reached its 16th invocation."), depth=16,
    ),
    Row(
        "The sixteenth invocation of a chain runs",
        (succeeded(),), (1,), "Success", ("success",), 1, depth=15,
    ),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says.replace(" ", "-")[:60])
async def test_row(row: Row, aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """The attempts that the host saw, all under one id; what each mailbox got, to the letter; how the event ended."""
    name = f"row-{ROWS.index(row)}"
    boxes = {kind: Mailbox(neighbour, f"{name}-{kind}") for kind in ("success", "failure", "dead")}
    answers = list(row.answers)
    wiring = {"on_success": boxes["success"].arn, "dead_letters": boxes["dead"].arn if "dead" in row.told else ""}
    if "failure" in row.told:
        wiring["on_failure"] = boxes["failure"].arn
    given = row.function()
    if given.get("dead_letters") == "dead":
        given["dead_letters"] = boxes["dead"].arn
    await aws_rig.deploy(name, lambda i: answers.pop(0) if len(answers) > 1 else answers[0], **{**wiring, **given})
    request_id = await aws_rig.enqueue(name, row.qualifier, PAYLOAD, row.depth)
    is_success = row.condition == "Success"
    event = await aws_rig.ended(request_id, "succeeded" if is_success else "failed")
    runs = aws_rig.runs(name)
    assert tuple(i.attempt for i in runs) == row.attempts
    assert {i.request_id for i in runs} <= {request_id}
    assert event.attempts == row.count
    for kind, box in boxes.items():
        mail = await box.wait(1) if kind in row.told else box.read()
        assert len(mail) == (kind in row.told), kind
        if kind == "dead" and mail:
            assert mail[0].body.encode() == PAYLOAD
            assert mail[0].attributes == {
                "RequestID": ("String", ids.to_text(request_id)),
                "ErrorCode": ("Number", row.error[0]),
                "ErrorMessage": ("String", row.error[1]),
            }
        elif mail:
            _check_record(mail[0].record, row, name, request_id)


def _check_record(record: dict[str, Any], row: Row, name: str, request_id: bytes) -> None:
    timestamp = record.pop("timestamp")
    assert timestamp[4] == "-" and timestamp[-5] == "." and timestamp[-1] == "Z"
    expected: dict[str, Any] = {
        "version": "1.0",
        "requestContext": {
            "requestId": ids.to_text(request_id),
            "functionArn": f"{arn(name)}:{row.qualifier}",
            "condition": row.condition,
            "approximateInvokeCount": row.count,
        },
        "requestPayload": {"order": [1, 2]},
    }
    if row.count:
        expected["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST"}
        last = row.answers[-1]
        if last.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
            expected["responseContext"]["functionError"] = "Unhandled"
            expected["responsePayload"] = {"errorMessage": last.error_message, "errorType": "ValueError"}
        else:
            expected["responsePayload"] = {b"1": 1, b"null": None}.get(last.response_payload, {"ok": 1})
    assert record == expected


async def test_metrics_have_the_names_that_users_of_lambda_know(aws_rig: Rig, neighbour: AwsNeighbour) -> None:
    """What doors and pollers count; Invocations, Errors and Duration are a runtime host's."""
    box = Mailbox(neighbour, "metered")
    gone = box.arn + "-gone"
    await aws_rig.deploy("metered", lambda i: failed(), retries=0, on_failure=gone, dead_letters=gone)
    await aws_rig.ended(await aws_rig.submit("metered"), "dead")
    await aws_rig.ended(await aws_rig.enqueue("metered", depth=16), "dead")
    counted = {
        ("frontend-0", "AsyncEventsReceived_total"): 1,
        ("poller-0", "AsyncEventAge_milliseconds_count"): 1,
        ("poller-0", "AsyncEventsDropped_total"): 2,
        ("poller-0", "DestinationDeliveryFailures_total"): 6,
        ("poller-0", "DeadLetterErrors_total"): 6,
        ("poller-0", "RecursiveInvocationsDropped_total"): 1,
    }
    assert {key: aws_rig.metric(*key, function="metered") for key in counted} == counted
