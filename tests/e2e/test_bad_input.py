"""Bad input and bad handlers: the typed error that AWS gives, a word in the log, and the fleet goes on."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from botocore.exceptions import ClientError
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from cli.failures import from_rpc, reason_name
from tests.kit.fleet import Fleet, run_cli

pytestmark = pytest.mark.fleet
SOURCE = """
    import os

    def handler(event, context):
        print("asked to", event.get("do"))
        match event.get("do"):
            case "raise":
                raise LookupError("nothing there")
            case "exit":
                os._exit(7)
            case "kill":
                os.kill(os.getpid(), 9)
            case "hang":
                while True:
                    pass
            case "unserializable":
                return {1, 2}
            case "large":
                return "x" * 7_000_000
        return {"did": event.get("do")}
"""
HANDLER_ERRORS = [
    ("raise", "LookupError", "nothing there"),
    ("exit", "Runtime.ExitError", "exit status 7"),
    ("kill", "Runtime.ExitError", "signal: killed"),
    ("hang", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ("unserializable", "Runtime.MarshalError", "set"),
    ("large", "Function.ResponseSizeTooLarge", "6291556"),
]


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Any:
    """boto3 on the HTTP door, with a function that misbehaves on demand."""
    fleet.deploy("unruly", SOURCE, timeout_seconds=1, **{"async": {"maximum_retry_attempts": 0}})
    return fleet.lambda_client()


def goes_on(client: Any) -> None:
    """The fleet still runs the same function."""
    answer = client.invoke(FunctionName="unruly", Payload=b'{"do": "well"}')
    assert json.load(answer["Payload"]) == {"did": "well"} and "FunctionError" not in answer


@pytest.mark.parametrize(
    ("function", "kind", "payload", "status", "code"),
    [
        ("unruly", "Event", b"{broken", 400, "InvalidRequestContentException"),
        ("unruly", "RequestResponse", b"{broken", 400, "InvalidRequestContentException"),
        ("unruly", "Event", b'"' + b"x" * 1_048_577 + b'"', 413, "RequestTooLargeException"),
        ("unruly", "RequestResponse", b'"' + b"x" * 6_291_457 + b'"', 413, "RequestTooLargeException"),
        ("nosuch", "Event", b"{}", 404, "ResourceNotFoundException"),
        ("nosuch", "RequestResponse", b"{}", 404, "ResourceNotFoundException"),
    ],
)
def test_what_the_door_refuses(client: Any, function: str, kind: str, payload: bytes, status: int, code: str) -> None:
    """AWS's status and error name, for both ways of invoking."""
    with pytest.raises(ClientError) as caught:
        client.invoke(FunctionName=function, InvocationType=kind, Payload=payload)
    response = caught.value.response
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == (status, code)
    goes_on(client)


def test_the_grpc_door_gives_the_same_reasons(fleet: Fleet, client: Any) -> None:
    """Typed details on the failed call; in a batch each event is judged by itself."""
    with grpc.insecure_channel(fleet.grpc_address) as channel:
        door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)
        for function, payload, reason in (
            ("nosuch", b"{}", "FUNCTION_NOT_FOUND"),
            ("unruly", b"{broken", "INVALID_REQUEST_CONTENT"),
            ("unruly", b'"' + b"x" * 1_048_577 + b'"', "REQUEST_TOO_LARGE"),
        ):
            event = frontend_pb2.EventSubmission(function_name=function, payload=payload)
            with pytest.raises(grpc.RpcError) as caught:
                door.InvokeAsync(frontend_pb2.InvokeAsyncRequest(event=event), timeout=10)
            assert reason_name(from_rpc(caught.value).reason) == reason
        events = [frontend_pb2.EventSubmission(function_name=name, payload=b"{}") for name in ("unruly", "nosuch")]
        good, bad = door.PublishBatch(frontend_pb2.PublishBatchRequest(events=events), timeout=10).results
        assert good.request_id and not good.HasField("error")
        assert reason_name(bad.error.reason) == "FUNCTION_NOT_FOUND"


@pytest.mark.parametrize(("do", "error_type", "words"), HANDLER_ERRORS)
def test_a_misbehaving_handler_is_answered_as_aws_does(
    fleet: Fleet, client: Any, do: str, error_type: str, words: str
) -> None:
    """200 with X-Amz-Function-Error and AWS's error object; the next run is well."""
    answer = client.invoke(FunctionName="unruly", Payload=json.dumps({"do": do}), LogType="Tail")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    error = json.load(answer["Payload"])
    assert error["errorType"] == error_type
    assert words in error["errorMessage"]
    assert answer["LogResult"]
    goes_on(client)


def test_the_same_misbehaviour_in_events_ends_in_the_dead_letters(fleet: Fleet, client: Any) -> None:
    """One dead letter each, with the same error type; the log has a line of every run."""
    expected = {}
    for do, error_type, _ in HANDLER_ERRORS:
        answer = client.invoke(FunctionName="unruly", InvocationType="Event", Payload=json.dumps({"do": do}))
        expected[answer["ResponseMetadata"]["RequestId"]] = error_type
    fleet.wait_drained()
    letters = fleet.cli_json("dlq", "list", "--function", "unruly")
    assert {one["request_id"]: one["error_type"] for one in letters} == expected
    log = fleet.cli("logs", "unruly", "-n", "2000")
    assert all(f"START RequestId: {request_id}" in log for request_id in expected)
    assert "LookupError: nothing there" in log
    fleet.cli("dlq", "purge", "--function", "unruly", "--yes")
    goes_on(client)


@pytest.mark.parametrize(
    ("handler", "source", "error_type"),
    [
        ("app.handler", "import no_such_module", "Runtime.ImportModuleError"),
        ("app.other", "def handler(event, context): return 1", "Runtime.HandlerNotFound"),
        ("app.handler", "def handler(:", "Runtime.UserCodeSyntaxError"),
    ],
)
def test_code_that_cannot_be_loaded(fleet: Fleet, client: Any, handler: str, source: str, error_type: str) -> None:
    """The error says what is wrong with the code; other functions do not notice."""
    fleet.deploy("unloadable", source, handler=handler)
    answer = client.invoke(FunctionName="unloadable", Payload=b"{}")
    assert answer["FunctionError"] == "Unhandled"
    assert json.load(answer["Payload"])["errorType"] == error_type
    goes_on(client)


def test_a_deploy_that_control_refuses_changes_nothing(fleet: Fleet, client: Any, tmp_path: Path) -> None:
    """One line with the typed reason; the function runs on as it was."""
    (tmp_path / "app.py").write_text("def handler(event, context): return 2")
    manifest = '[[functions]]\nname = "unruly"\nhandler = "app.handler"\nmemory_mb = 64\n'
    (tmp_path / "evenflow.toml").write_text(manifest)
    done = run_cli("deploy", str(tmp_path), data=fleet.data)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: INVALID_PARAMETER: ") and "128" in line
    (tmp_path / "evenflow.toml").unlink()
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 not a zip")
    done = run_cli("deploy", str(tmp_path / "bad.zip"), "--name", "unruly", "--handler", "app.handler", data=fleet.data)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "no zip" in line
    goes_on(client)


def test_a_failed_sync_run_fails_the_command(fleet: Fleet, client: Any) -> None:
    """`evenflow invoke` prints the error object, says what failed, and exits 1."""
    done = run_cli("invoke", "unruly", "--payload", '{"do": "raise"}', "--tail", data=fleet.data)
    assert done.returncode == 1
    assert json.loads(done.stdout)["errorType"] == "LookupError"
    assert "unruly failed: LookupError: nothing there" in done.stderr and "START RequestId" in done.stderr
    with fleet.connect() as connection:
        request = frontend_pb2.InvokeRequest(function_name="unruly", payload=b"{}")
        outcome = connection.ask(connection.door.Invoke, request).outcome
    assert outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED
