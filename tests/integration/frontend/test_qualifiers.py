"""Invocations by version and alias, and with a response stream, as unmodified boto3 sees them."""

import asyncio
import base64
from collections import Counter
from typing import Any

import pytest
from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2

from services.shared import ids
from tests.integration.frontend.conftest import Rig, make_function, resource
from tests.integration.frontend.test_http_door import ARN, call, refused

_Version = resources_pb2.FunctionVersion
_Alias = resources_pb2.Alias


def with_versions() -> resources_pb2.Function:
    """Versions 1 and 2, one alias on each and one that splits."""
    return make_function(
        "echo",
        versions=[_Version(version="1", timeout_ms=5_000), _Version(version="2", timeout_ms=6_000)],
        aliases=[
            _Alias(name="one", function_version="1"),
            _Alias(name="split", function_version="1", additional_version_weights={"2": 0.5}),
            _Alias(name="latest", function_version="$LATEST"),
        ],
        qualified_async_configs={"one": resources_pb2.AsyncConfig(maximum_event_age_seconds=60)},
    )


@pytest.fixture
def versions(rig: Rig) -> Rig:
    """The rig, whose function has versions; its host answers which one ran."""
    rig.configuration.put(resource(function=with_versions()))
    rig.runtime.behave = lambda invocation: event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_SUCCEEDED, response_payload=f'"{invocation.version}"'.encode()
    )
    return rig


@pytest.mark.parametrize(
    ("arguments", "version", "arn"),
    [
        ({"FunctionName": "echo"}, "$LATEST", ARN),
        ({"FunctionName": "echo", "Qualifier": "$LATEST"}, "$LATEST", f"{ARN}:$LATEST"),
        ({"FunctionName": "echo", "Qualifier": "1"}, "1", f"{ARN}:1"),
        ({"FunctionName": "echo:2"}, "2", f"{ARN}:2"),
        ({"FunctionName": "echo", "Qualifier": "one"}, "1", f"{ARN}:one"),
        ({"FunctionName": f"{ARN}:one"}, "1", f"{ARN}:one"),
        ({"FunctionName": "echo:latest"}, "$LATEST", f"{ARN}:latest"),
    ],
)
async def test_a_qualifier_chooses_the_version(
    versions: Rig, arguments: dict[str, str], version: str, arn: str
) -> None:
    """Its number is told in X-Amz-Executed-Version, and the handler sees the ARN that was named."""
    answer = await call(versions.boto(), **arguments)
    assert answer["Payload"].read() == f'"{version}"'.encode() and answer["ExecutedVersion"] == version
    assert versions.runtime.seen[0].invoked_function_arn == arn


async def test_an_alias_splits_synchronous_traffic(versions: Rig) -> None:
    """Each invocation draws; both versions of a half-and-half alias run."""
    client = versions.boto()
    answers = await asyncio.gather(*(call(client, FunctionName="echo", Qualifier="split") for _ in range(40)))
    counts = Counter(answer["ExecutedVersion"] for answer in answers)
    # All forty on one side: one run in 5 * 10^11.
    assert set(counts) == {"1", "2"}


async def test_an_event_keeps_the_qualifier_and_has_its_age(versions: Rig) -> None:
    """Who runs it resolves the alias then; the age is the qualifier's."""
    answer = await call(versions.boto(), FunctionName="echo:one", InvocationType="Event")
    event = versions.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])]
    assert event.qualifier == "one" and event.expires_at_ms - event.accepted_at_ms == 60_000
    answer = await call(versions.boto(), FunctionName="echo", Qualifier="split", InvocationType="Event")
    event = versions.queue.events[ids.from_text(answer["ResponseMetadata"]["RequestId"])]
    assert event.qualifier == "split" and event.expires_at_ms - event.accepted_at_ms == 21_600_000


async def test_a_version_that_the_view_does_not_have_is_asked_for(rig: Rig) -> None:
    """Publish-then-invoke never races; one that control does not know either is not found."""
    rig.configuration.in_control["default", "echo"] = with_versions()
    answer = await call(rig.boto(), FunctionName="echo", Qualifier="1")
    assert answer["ExecutedVersion"] and rig.configuration.asked == [("default", "echo")]
    error = await refused(rig.boto(), FunctionName="echo", Qualifier="3")
    assert error.response["Error"]["Message"] == f"Function not found: {ARN}:3"


async def test_a_response_stream_has_the_payload_and_its_end(versions: Rig) -> None:
    """Chunks that together are the result, then InvokeComplete with the log where it was asked for."""
    large = b'"' + b"x" * 200_000 + b'"'
    versions.runtime.behave = lambda _i: event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_SUCCEEDED, response_payload=large, log_tail=b"END\n"
    )
    answer = await call(
        versions.boto(), "invoke_with_response_stream", FunctionName="echo", Qualifier="one", LogType="Tail"
    )
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "1"
    events: list[Any] = await asyncio.to_thread(list, answer["EventStream"])
    assert b"".join(event["PayloadChunk"]["Payload"] for event in events[:-1]) == large and len(events) > 2
    assert base64.b64decode(events[-1]["InvokeComplete"]["LogResult"]) == b"END\n"
    assert "ErrorCode" not in events[-1]["InvokeComplete"]


async def test_a_response_stream_ends_with_the_functions_error(versions: Rig) -> None:
    """ErrorCode and ErrorDetails at the end; refusals before the stream are plain errors; a dry run runs nothing."""
    body = b'{"errorMessage":"no","errorType":"ValueError"}'
    versions.runtime.behave = lambda _i: event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_FUNCTION_ERROR, response_payload=body, error_type="ValueError"
    )
    client = versions.boto()
    answer = await call(client, "invoke_with_response_stream", FunctionName="echo", Payload=b"{}")
    events: list[Any] = await asyncio.to_thread(list, answer["EventStream"])
    assert events[-1]["InvokeComplete"]["ErrorCode"] == "ValueError"
    assert events[-1]["InvokeComplete"]["ErrorDetails"] == body.decode()
    error = await refused(client, "invoke_with_response_stream", FunctionName="nobody")
    assert type(error).__name__ == "ResourceNotFoundException"
    ran = len(versions.runtime.seen)
    dry = await call(client, "invoke_with_response_stream", FunctionName="echo", InvocationType="DryRun")
    assert dry["StatusCode"] == 204 and len(versions.runtime.seen) == ran
