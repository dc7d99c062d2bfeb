"""The Runtime API's rules: which call may come when, and what a body makes of a run."""

import base64
import json

import pytest

from services.runtime.sandbox import api_answers, frames
from services.runtime.sandbox.api_rules import (
    ASKING,
    FAILED,
    READY,
    RUNNING,
    STARTING,
    Call,
    Ending,
    Refusal,
    call_of,
    ending_of,
    error_of,
    refusal_of,
)
from services.runtime.sandbox.http_requests import Request, RequestReader

ID = "01010101-0101-0101-0101-010101010101"
PHASES = (STARTING, ASKING, READY, RUNNING, FAILED)


def request(method: str, path: str, body: bytes = b"", **more: dict[str, str]) -> Request:
    """One whole request."""
    fields = {"headers": {}, "trailers": {}, **more}
    return Request(method, path, fields["headers"], fields["trailers"], body, len(body), True)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "invocation/next", Call("next", "")),
        ("GET", "invocation/next?x=1", Call("next", "")),
        ("POST", f"invocation/{ID}/response", Call("response", ID)),
        ("POST", f"invocation/{ID}/error", Call("error", ID)),
        ("POST", "init/error", Call("init/error", "")),
        ("GET", "restore/next", Call("restore", "")),
        ("POST", "invocation/next", 405),
        ("GET", f"invocation/{ID}/response", 405),
        ("POST", "invocation//response", 404),
        ("POST", f"invocation/{'x' * 200}/response", 404),
        ("POST", f"invocation/{ID}/other", 404),
        ("GET", "../extension", 404),
    ],
)
def test_calls_are_known_by_method_and_path(method: str, path: str, expected: Call | int) -> None:
    """Everything else has a status."""
    found = call_of(request(method, "/2018-06-01/runtime/" + path))
    assert found == expected or (isinstance(found, Refusal) and found.status == expected)
    assert isinstance(call_of(request("GET", "/2020-01-01/extension/register")), Refusal)


@pytest.mark.parametrize(
    ("call", "allowed_in"),
    [
        (Call("next", ""), {STARTING, READY}),
        (Call("init/error", ""), {STARTING}),
        (Call("response", ID), {RUNNING}),
        (Call("error", ID), {RUNNING}),
        (Call("restore", ""), set()),
    ],
)
def test_each_call_has_its_phases(call: Call, allowed_in: set[str]) -> None:
    """Out of order is 403; an id that is nobody's any more is 400."""
    for phase in PHASES:
        refusal = refusal_of(call, phase, ID if phase == RUNNING else "")
        assert (refusal is None) == (phase in allowed_in), phase
        if refusal is not None and call.request_id and phase in (ASKING, READY):
            assert refusal == (400, "InvalidRequestID", "Invalid request ID")
        elif refusal is not None:
            assert refusal.status == 403 and refusal.error_type == "InvalidStateTransition"
    assert refusal_of(Call("response", "another"), RUNNING, ID) == (400, "InvalidRequestID", "Invalid request ID")


@pytest.mark.parametrize(
    ("body", "header", "expected"),
    [
        (b'{"errorType": "T", "errorMessage": "m", "x": 1}', "H", ("T", "m")),
        (b'{"errorMessage": "m"}', "H", ("H", "m")),
        (b'{"errorType": 5, "errorMessage": null}', "", ("Runtime.Unknown", "")),
        (b"plain words", "H", ("H", "plain words")),
        (b"[1]", "", ("Runtime.Unknown", "[1]")),
        (b'{"errorMessage": NaN}', "H", ("H", '{"errorMessage": NaN}')),
        (b"[" * 100_000, "H", ("H", "[" * 1_024)),
        (b"\xff", "", ("Runtime.Unknown", "\ufffd")),
    ],
)
def test_an_error_is_what_the_client_says(body: bytes, header: str, expected: tuple[str, str]) -> None:
    """An object is passed on byte for byte; anything else becomes one, so that the payload is JSON."""
    found = error_of(body, header)
    assert (found.error_type, found.error_message) == expected
    fields = json.loads(found.payload)
    assert isinstance(fields, dict)
    assert found.payload == body or (fields["errorType"], fields["errorMessage"]) == expected


def test_a_stream_that_broke_off_is_an_error() -> None:
    """Its trailers carry type and body."""
    error = {"errorType": "RangeError", "errorMessage": "no"}
    trailers = {
        "lambda-runtime-function-error-type": "RangeError",
        "lambda-runtime-function-error-body": base64.b64encode(json.dumps(error).encode()).decode(),
    }
    found = ending_of(Call("response", ID), request("POST", "/", b"half", trailers=trailers))
    assert (found.error_type, found.error_message) == ("RangeError", "no") and json.loads(found.payload) == error
    trailers["lambda-runtime-function-error-body"] = "no base64!"
    assert ending_of(Call("response", ID), request("POST", "/", trailers=trailers)).error_type == "RangeError"


@pytest.mark.parametrize("name", ["response", "error"])
def test_too_large_is_an_error_of_its_own(name: str) -> None:
    """AWS's type, with both sizes; also when text grows over the bound by its quoting."""
    large = request("POST", "/")._replace(body_bytes=frames.MAX_RESPONSE_BYTES + 1)
    found = ending_of(Call(name, ID), large)
    assert found.error_type == "Function.ResponseSizeTooLarge" and "6291557 bytes" in found.error_message
    grown = ending_of(Call("response", ID), request("POST", "/", b"\n" * 4_000_000))
    assert grown.error_type == "Function.ResponseSizeTooLarge"


def test_deep_json_is_no_reason_to_fail() -> None:
    """What cannot be checked is handed on as text."""
    found = ending_of(Call("response", ID), request("POST", "/", b"[" * 100_000 + b"]" * 100_000))
    assert isinstance(found, Ending) and isinstance(json.loads(found.payload), str) and not found.error_type


def test_headers_cannot_be_smuggled_into_an_answer() -> None:
    """A client context on several lines stays one header."""
    text = api_answers.invocation(ID, 5, b"arn", b"trace", b'{\r\n"a": 1,\r\nEvil: x}', b"{}")
    head, _, body = text.partition(b"\r\n\r\n")
    assert body == b"{}" and b'Lambda-Runtime-Client-Context: {  "a": 1,  Evil: x}\r\n' in text
    assert [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]] == [
        b"Content-Type",
        b"Lambda-Runtime-Aws-Request-Id",
        b"Lambda-Runtime-Deadline-Ms",
        b"Lambda-Runtime-Invoked-Function-Arn",
        b"Lambda-Runtime-Trace-Id",
        b"Lambda-Runtime-Client-Context",
        b"Content-Length",
    ]


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_answers_have_their_length_and_say_when_they_are_the_last(keeps_alive: bool) -> None:
    """The body is as long as stated."""
    for text in (
        api_answers.accepted(keeps_alive=keeps_alive),
        api_answers.refusal(413, "T", "m", keeps_alive=keeps_alive),
    ):
        head, _, body = text.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert (b"Connection: close" in head) != keeps_alive
        json.loads(body)


def test_a_reader_takes_what_real_clients_send() -> None:
    """curl's and Node's forms of a POST."""
    reader = RequestReader(100)
    reader.feed(
        b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAccept: */*\r\n"
        b"Lambda-Runtime-Function-Error-Type: X\r\nExpect:\r\nContent-Length: 2\r\n\r\n{}"
    )
    found = reader.next_request()
    assert found is not None and call_of(found) == Call("init/error", "")
