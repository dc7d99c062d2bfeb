"""The HTTP door as unmodified boto3 sees it."""

import asyncio
import base64
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from evenflow.common.v1 import errors_pb2, event_pb2

from services.shared import ids
from services.shared.errors import Reason
from tests.integration.frontend.conftest import ACCESS_KEY, Rig, make_function
from tests.kit.waiting import eventually

ARN = "arn:aws:lambda:us-east-1:123456789012:function:echo"


async def call(client: Any, operation: str = "invoke", **arguments: Any) -> Any:
    """One call of boto3 on a thread: the frontend runs on this loop."""
    return await asyncio.to_thread(getattr(client, operation), **arguments)


async def refused(client: Any, operation: str = "invoke", **arguments: Any) -> Any:
    with pytest.raises(ClientError) as caught:
        await call(client, operation, **arguments)
    return caught.value


async def test_an_event_is_accepted_after_it_is_durable(rig: Rig) -> None:
    """202, no body, and the request id is the stored event's own."""
    answer = await call(rig.boto(), FunctionName="echo", InvocationType="Event", Payload=b'{"a":1}')
    assert answer["StatusCode"] == 202 and answer["Payload"].read() == b""
    assert "ExecutedVersion" not in answer
    event = rig.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])]
    assert (event.payload, event.function_name, event.tenant_id) == (b'{"a":1}', "echo", "default")
    assert (event.qualifier, event.source) == ("$LATEST", "invoke")
    assert event.expires_at_ms - event.accepted_at_ms == 21_600_000
    assert len(event.trace.traceparent) == 55


@pytest.mark.parametrize(
    "name", ["echo", "echo:$LATEST", "function:echo", "123456789012:function:echo", ARN, f"{ARN}:$LATEST"]
)
async def test_every_form_of_a_function_name_is_understood(rig: Rig, name: str) -> None:
    """Names, partial ARNs and ARNs, with and without qualifier."""
    answer = await call(rig.boto(), FunctionName=name, InvocationType="Event")
    assert answer["StatusCode"] == 202
    assert rig.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])].payload == b"{}"


@pytest.mark.parametrize("kind", ["Event", "RequestResponse", "DryRun"])
async def test_what_is_no_function_name_breaks_the_models_bounds(rig: Rig, kind: str) -> None:
    """As at AWS, whatever the invocation's type."""
    error = (await refused(rig.boto(), FunctionName="no name", InvocationType=kind)).response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == ("ValidationException", 400)
    assert error["Error"]["Message"].startswith(
        "1 validation error detected: Value 'no name' at 'functionName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?"
    )
    assert not rig.queue.events


@pytest.mark.parametrize(
    ("arguments", "arn"),
    [
        ({"FunctionName": "nobody"}, "arn:aws:lambda:us-east-1:123456789012:function:nobody"),
        ({"FunctionName": "echo", "Qualifier": "7"}, f"{ARN}:7"),
        ({"FunctionName": "echo:live"}, f"{ARN}:live"),
        ({"FunctionName": "theirs"}, "arn:aws:lambda:us-east-1:123456789012:function:theirs"),
    ],
)
@pytest.mark.parametrize("kind", ["Event", "RequestResponse", "DryRun"])
async def test_an_unknown_function_is_not_found(rig: Rig, arguments: dict[str, str], arn: str, kind: str) -> None:
    """404 with AWS's words, whatever the invocation type."""
    error = await refused(rig.boto(), InvocationType=kind, **arguments)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert type(error).__name__ == "ResourceNotFoundException"
    assert error.response["Error"]["Message"] == f"Function not found: {arn}"
    assert error.response["Type"] == "User"


async def test_create_then_invoke_never_races(rig: Rig) -> None:
    """A function that the view does not have yet is asked of control, once."""
    rig.configuration.in_control["default", "fresh"] = make_function("fresh")
    answer = await call(rig.boto(), FunctionName="fresh", InvocationType="Event")
    assert answer["StatusCode"] == 202
    await call(rig.boto(), FunctionName="fresh", InvocationType="Event")
    assert rig.configuration.asked == [("default", "fresh")]


async def test_the_tenant_follows_from_the_access_key(rig: Rig) -> None:
    """The key of the signature names the tenant; an unknown key is the default one."""
    answer = await call(rig.boto(ACCESS_KEY), FunctionName="theirs", InvocationType="Event")
    assert rig.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])].tenant_id == "other"


@pytest.mark.parametrize("payload", [b"{", b"nonsense", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'"\x00"'])
@pytest.mark.parametrize("kind", ["Event", "RequestResponse"])
async def test_a_payload_that_is_no_json_is_refused(rig: Rig, payload: bytes, kind: str) -> None:
    """400, the typed error, and nothing is stored or run."""
    error = await refused(rig.boto(), FunctionName="echo", InvocationType=kind, Payload=payload)
    assert type(error).__name__ == "InvalidRequestContentException"
    assert error.response["Error"]["Message"].startswith("Could not parse request body into json: ")
    assert not rig.queue.events and not rig.runtime.seen


@pytest.mark.parametrize(("kind", "limit"), [("Event", 1_048_576), ("RequestResponse", 6_291_456)])
async def test_payload_limits_are_exact(rig: Rig, kind: str, limit: int) -> None:
    """The limit itself passes, one byte more is 413."""
    largest = b'"' + b"x" * (limit - 2) + b'"'
    answer = await call(rig.boto(), FunctionName="echo", InvocationType=kind, Payload=largest)
    assert answer["StatusCode"] in (200, 202)
    error = await refused(rig.boto(), FunctionName="echo", InvocationType=kind, Payload=largest + b" ")
    assert type(error).__name__ == "RequestTooLargeException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert str(limit) in error.response["Error"]["Message"]


async def test_the_old_invoke_async_is_served(rig: Rig) -> None:
    """The 2014 operation: 202 and its own limit of 256 KB."""
    answer = await call(rig.boto(), "invoke_async", FunctionName="echo", InvokeArgs=b"{}")
    assert answer["Status"] == 202
    assert len(rig.queue.events) == 1
    large = b'"' + b"x" * 262_144 + b'"'
    error = await refused(rig.boto(), "invoke_async", FunctionName="echo", InvokeArgs=large)
    assert error.response["Error"]["Code"] == "RequestTooLargeException"


async def test_a_synchronous_invocation_gives_result_version_and_log(rig: Rig) -> None:
    """200 with the payload; the log's tail only when asked for; the client context reaches the host."""
    context = {"custom": {"k": "v"}}
    answer = await call(
        rig.boto(),
        FunctionName="echo",
        Payload=b'{"n": 2}',
        LogType="Tail",
        ClientContext=base64.b64encode(json.dumps(context).encode()).decode(),
    )
    assert answer["StatusCode"] == 200 and answer["Payload"].read() == b'{"n": 2}'
    assert answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    assert base64.b64decode(answer["LogResult"]) == b"START\nEND\n"
    seen = rig.runtime.seen[0]
    assert json.loads(seen.client_context) == context
    assert ids.to_text(seen.request_id) == answer["ResponseMetadata"]["RequestId"]
    assert (seen.attempt, seen.version, seen.invoked_function_arn) == (1, "$LATEST", ARN)
    assert "LogResult" not in await call(rig.boto(), FunctionName="echo")
    assert rig.runtime.seen[1].payload == b"{}"


async def test_a_function_error_is_an_answer_not_a_failure(rig: Rig) -> None:
    """200, X-Amz-Function-Error: Unhandled, and AWS's error object as payload."""
    body = b'{"errorMessage":"no","errorType":"ValueError"}'
    rig.runtime.behave = lambda _i: event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR, response_payload=body, error_type="ValueError"
    )
    answer = await call(rig.boto(), FunctionName="echo")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert answer["Payload"].read() == body


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED, "ReservedFunctionConcurrentInvocationLimitExceeded"),
        (Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, "ConcurrentInvocationLimitExceeded"),
    ],
)
async def test_a_throttle_says_why_and_when_to_come_back(rig: Rig, reason: Any, said: str) -> None:
    """429 with Reason and Retry-After, as boto3's exception class has them."""
    refusal = errors_pb2.ErrorDetail(reason=reason, message="full", retry_after_ms=1_500)
    rig.runtime.behave = lambda _i: event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_THROTTLED, refusal=refusal)
    error = await refused(rig.boto(), FunctionName="echo")
    assert type(error).__name__ == "TooManyRequestsException"
    assert (error.response["Reason"], error.response["Error"]["Message"]) == (said, "Rate Exceeded.")
    assert error.response["retryAfterSeconds"] == "2"


async def test_a_dry_run_checks_and_runs_nothing(rig: Rig) -> None:
    """204 for what would be accepted; every refusal as for a real run."""
    answer = await call(rig.boto(), FunctionName="echo", InvocationType="DryRun", Payload=b"{}")
    assert answer["StatusCode"] == 204
    error = await refused(rig.boto(), FunctionName="echo", InvocationType="DryRun", Payload=b"{")
    assert error.response["Error"]["Code"] == "InvalidRequestContentException"
    assert not rig.runtime.seen and not rig.queue.events


@pytest.mark.parametrize("context", ["A" * 3_584, "no base64!", base64.b64encode(b"[1]").decode()])
async def test_a_bad_client_context_is_refused(rig: Rig, context: str) -> None:
    """Over 3,583 bytes, no base64, or no JSON object."""
    error = await refused(rig.boto(), FunctionName="echo", ClientContext=context)
    assert error.response["Error"]["Code"] == "InvalidRequestContentException"


async def test_a_host_that_breaks_away_is_not_asked_twice(rig: Rig) -> None:
    """500 ServiceException, and the invocation was sent once."""
    rig.runtime.cut_after_receive = True
    error = await refused(rig.boto(), FunctionName="echo")
    assert type(error).__name__ == "ServiceException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert len(rig.runtime.seen) == 1


async def test_without_room_anywhere_the_caller_is_told_in_time(rig: Rig) -> None:
    """503 once the waiting time for credit is over; nothing ran."""
    rig.runtime.behave = lambda _i: None
    waiting = [asyncio.create_task(call(rig.boto(), FunctionName="echo")) for _ in range(2)]
    host = rig.frontend.runtimes._hosts["runtime-0"]
    # Else the first grant might come after the credits were taken away.
    await eventually(lambda: len(rig.runtime.seen) == 2)
    host.credits = 0
    error = await refused(rig.boto(), FunctionName="echo")
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert len(rig.runtime.seen) <= 2
    for invocation in rig.runtime.seen:
        rig.runtime.finish(invocation.invocation_id, event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SUCCEEDED))
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_is_not_offered_is_said_so(rig: Rig) -> None:
    """Other Lambda operations: 501 that names them."""
    error = await refused(rig.boto(), "list_code_signing_configs")
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert error.response["Error"]["Code"] == "NotImplementedException"
    assert "ListCodeSigningConfigs is not offered" in error.response["Error"]["Message"]


async def test_a_chain_of_handlers_calls_is_stopped_at_its_16th(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 in a handler passes on the trace header it was given: who waits is refused, an event is for the poller."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "caller")
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=1:0a0b0c0d"
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"{trace}:14")
    await call(rig.boto(), FunctionName="echo")
    assert rig.runtime.seen[-1].lineage.chain_depth == 15
    monkeypatch.setenv("_X_AMZN_TRACE_ID", f"{trace}:15")
    error = await refused(rig.boto(), FunctionName="echo")
    assert error.response["Error"]["Code"] == "RecursiveInvocationException"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    answer = await call(rig.boto(), FunctionName="echo", InvocationType="Event")
    event = rig.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])]
    assert event.lineage.chain_depth == 16
