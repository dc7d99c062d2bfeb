"""Routes, traces, validation and error shapes, without any socket."""

import gzip
import json
from pathlib import Path
from typing import Any

import botocore
import pytest

from services.frontend import http_answers
from services.frontend.http_routes import Routes
from services.frontend.http_traces import parent_of
from services.policy import validation
from services.shared.errors import TABLE, EvenflowError


def lambda_model() -> Any:
    folder = Path(botocore.__file__).parent / "data" / "lambda" / "2015-03-31"
    return json.loads(gzip.decompress((folder / "service-2.json.gz").read_bytes()))


@pytest.mark.parametrize("reason", TABLE)
def test_every_refusal_has_the_shape_of_its_aws_error(reason: int) -> None:
    """Status, type header and the message member that the Lambda model names for that exception."""
    error = EvenflowError(reason, "what is wrong", 1_200)  # type: ignore[arg-type]
    head, body = http_answers.error(error, "id", b"")
    fields, kind = json.loads(body), TABLE[reason]
    assert head.startswith(b"HTTP/1.1 %d " % kind.http_status) and b"Unknown" not in head.split(b"\r\n")[0]
    assert f"x-amzn-ErrorType: {kind.aws_code}\r\n".encode() in head and b"Retry-After: 2\r\n" in head
    shape = lambda_model()["shapes"].get(kind.aws_code)
    if shape is not None:
        header_members = {n for n, m in shape["members"].items() if m.get("location") == "header"}
        assert set(fields) == set(shape["members"]) - header_members
    assert fields["Type"] == ("User" if kind.http_status < 500 else "Service")


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        (b"POST", b"/2015-03-31/functions/f/invocations", ("invoke", "f", "")),
        (b"POST", b"/2015-03-31/functions/arn%3Aaws%3Alambda%3Ax/invocations?Qualifier=%24LATEST",
         ("invoke", "arn:aws:lambda:x", "$LATEST")),
        (b"POST", b"/2014-11-13/functions/f/invoke-async/", ("invoke-async", "f", "")),
        (b"GET", b"/2015-03-31/functions/f/invocations", ("api", "", "")),
        (b"POST", b"/2021-11-15/functions/f/response-streaming-invocations", ("invoke-stream", "f", "")),
        (b"DELETE", b"/2015-03-31/functions/f", ("api", "", "")),
        (b"GET", b"/_evenflow/package/abc", ("package", "", "")),
        (b"PUT", b"/_evenflow/url/abc/x?y=1", ("url", "", "")),
        (b"GET", b"/_evenflow/health", ("health", "", "")),
        (b"POST", b"/2015-03-31/functions//invocations", ("api", "", "")),
        (b"GET", b"/\xff", ("unknown", "", "")),
    ],
)  # fmt: skip
def test_routes(method: bytes, url: bytes, expected: tuple[str, str, str]) -> None:
    """Names and qualifiers are URL-decoded."""
    route = Routes().find(method, url)
    assert (route.operation, route.function_name, route.qualifier) == expected


def test_a_presigned_url_is_not_remembered() -> None:
    """Signed URLs never come again."""
    routes = Routes()
    url = b"/2015-03-31/functions/f/invocations?Qualifier=1&X-Amz-Credential=AKIA1%2F20260101&X-Amz-Signature=00"
    assert routes.find(b"POST", url).qualifier == "1"
    assert not routes._known


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ""),
        ({b"x-amzn-trace-id": b"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"},
         "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"),
        ({b"x-amzn-trace-id": b"Root=1-5759e988-bd862e3fe1be46a994272793"},
         "00-5759e988bd862e3fe1be46a994272793-e1be46a994272793-00"),
        ({b"x-amzn-trace-id": b"Self=1-2"}, ""),
        ({b"traceparent": b"x", b"x-amzn-trace-id": b"Root=1-5759e988-bd862e3fe1be46a994272793"}, "x"),
    ],
)  # fmt: skip
def test_the_callers_trace(headers: dict[bytes, bytes], expected: str) -> None:
    """W3C wins over AWS."""
    assert parent_of(headers)[0] == expected


@pytest.mark.parametrize("payload", [b"1", b'"\xc3\xa4"', b'{"a":[1.5e3,null,true]}', b" {} ", b'"\\ud800"'])
def test_json_passes(payload: bytes) -> None:
    """Any JSON value."""
    validation.check_json(payload)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"NaN", b"-Infinity", b"'a'", b"\xef\xbb\xbf{}", b"[" * 200_000, b"1 2"]
)
def test_what_is_no_json_is_said_to_be_none(payload: bytes) -> None:
    """With a sentence, also for nesting without end."""
    with pytest.raises(ValueError):
        validation.check_json(payload)
