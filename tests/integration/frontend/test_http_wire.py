"""Bytes on the HTTP port that no client library would send, and the bounds that hold against them."""

import asyncio
import json
from typing import Any

import pytest

from tests.integration.frontend.conftest import Rig
from tests.kit.waiting import eventually

PATH = "/2015-03-31/functions/echo/invocations"


async def talk(rig: Rig, data: bytes, *, end: bool = False) -> bytes:
    """Send, and read until the door closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.frontend.http.port)
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(body: bytes = b"{}", *headers: str, kind: str = "Event", path: str = PATH, close: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"X-Amz-Invocation-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [*headers, *(["Connection: close"] if close else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def parse(response: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


async def test_the_least_response_to_an_event(rig: Rig) -> None:
    """Status, id, date, no body."""
    status, headers, body = parse(await talk(rig, post()))
    assert (status, body, headers["content-length"]) == (202, b"", "0")
    assert len(headers["x-amzn-requestid"]) == 36 and headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        post(b"{}", "X-Large: " + "x" * 40_000),
        post(b"{}", *(f"X-{i}: 1" for i in range(120))),
        post(path="/" + "x" * 10_000),
        post(b"{}", "Content-Length: 3"),
        post(b"{}", "Transfer-Encoding: chunked"),
        post().replace(b"Content-Length: 2", b"Content-Length: -2"),
        post().replace(b"Content-Length: 2", b"Content-Length: two"),
        post().replace(b"Host: x", b"Host: x\r\n Folded: y\x00"),
    ],
)
async def test_what_is_no_request_is_a_typed_400(rig: Rig, data: bytes) -> None:
    """Malformed or over the bounds of URL and headers: typed JSON, then the connection ends."""
    status, headers, body = parse(await talk(rig, data))
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
    assert json.loads(body)["Type"] == "User" and headers["connection"] == "close"
    assert not rig.queue.events


async def test_a_chunked_body_is_a_body(rig: Rig) -> None:
    """In as many chunks as the caller likes."""
    data = post().replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")
    data = data.removesuffix(b"{}") + b'1\r\n{\r\n5\r\n"a":1\r\n1\r\n}\r\n0\r\n\r\n'
    assert parse(await talk(rig, data))[0] == 202
    (event,) = rig.queue.events.values()
    assert event.payload == b'{"a":1}'


async def test_a_chunked_body_over_the_limit_is_refused_and_not_kept(rig: Rig) -> None:
    """413 once it is all there; none of it stays in memory."""
    data = post().replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").removesuffix(b"{}")
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    status, headers, _ = parse(await talk(rig, data + chunk * 20 + b"0\r\n\r\n"))
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestTooLargeException")
    assert rig.frontend.http.connections.buffered_bytes == 0


async def test_expect_continue(rig: Rig) -> None:
    """A body that would be too large is refused before it is sent; another one is asked for."""
    large = post(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 2000000")
    assert parse(await talk(rig, large))[0] == 413
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.frontend.http.port)
    writer.write(post(b"{}", "Expect: 100-continue").removesuffix(b"{}"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert parse(await reader.read())[0] == 202
    writer.close()


async def test_pipelined_requests_are_answered_in_order(rig: Rig) -> None:
    """Slow and fast ones mixed on one connection, far more than the bound of those that wait."""
    kinds = ["Event", "RequestResponse", "DryRun"] * 40
    data = b"".join(post(b"%d" % i, kind=kind, close=i == 119) for i, kind in enumerate(kinds))
    answer = await talk(rig, data)
    statuses = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [202, 200, 204] * 40


async def test_a_caller_that_half_closes_still_gets_its_answer(rig: Rig) -> None:
    """EOF after the request is no hang-up."""
    assert parse(await talk(rig, post(close=False), end=True))[0] == 202


async def test_a_caller_that_goes_away_gives_up_its_invocation(rig: Rig) -> None:
    """Nobody waits for it any more at the door."""
    rig.runtime.behave = lambda _i: None
    _, writer = await asyncio.open_connection("127.0.0.1", rig.frontend.http.port)
    writer.write(post(kind="RequestResponse"))
    await eventually(lambda: rig.runtime.seen)
    writer.close()
    await eventually(lambda: rig.frontend.runtimes.in_flight == 0)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("PUT", PATH), ("POST", "/x"), ("DELETE", "/_evenflow/health")]
)
async def test_unknown_paths_are_typed(rig: Rig, method: str, path: str) -> None:
    """404, in AWS's shape."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    status, headers, _ = parse(await talk(rig, request))
    assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")


async def test_health(rig: Rig) -> None:
    """200 while serving; a HEAD has no body."""
    for method, length in (("GET", 20), ("HEAD", 0)):
        request = f"{method} /_evenflow/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        status, _, body = parse(await talk(rig, request))
        assert (status, len(body)) == (200, length)


async def test_invalid_invocation_type(rig: Rig) -> None:
    """AWS's own sentence."""
    status, _, body = parse(await talk(rig, post(kind="Sometimes")))
    assert status == 400 and "Value 'Sometimes' at 'invocationType'" in json.loads(body)["message"]


@pytest.mark.parametrize(
    ("header", "traceparent"),
    [
        ("X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0", None),
        ("traceparent: 00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00", None),
        ("x-amzn-trace-id: root=1-5759e988-bd862e3fe1be46a994272793", None),
    ],
)
async def test_the_callers_trace_is_continued(rig: Rig, header: str, traceparent: Any) -> None:
    """W3C and AWS headers, also in odd case and with a root only."""
    assert parse(await talk(rig, post(b"{}", header)))[0] == 202
    (event,) = rig.queue.events.values()
    assert event.trace.traceparent[3:35] == "5759e988bd862e3fe1be46a994272793"


class TestConnectionBounds:
    """Connections have a bound, and idle ones end."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"max_connections": 3, "request_seconds": 1.0}

    async def test_one_too_many_is_told_so(self, rig: Rig) -> None:
        """503 at once, and room again when another one ends."""
        held = [await asyncio.open_connection("127.0.0.1", rig.frontend.http.port) for _ in range(3)]
        await eventually(lambda: len(rig.frontend.http.connections.open) == 3)
        assert parse(await talk(rig, b""))[0] == 503
        held[0][1].close()
        await eventually(lambda: len(rig.frontend.http.connections.open) == 2)
        assert parse(await talk(rig, post()))[0] == 202
        for _, writer in held:
            writer.close()

    async def test_a_request_that_never_ends_is_cut(self, rig: Rig) -> None:
        """A slow sender holds its connection for request_seconds at most."""
        assert await talk(rig, b"POST / HTTP/1.1\r\nHost: x\r\n") == b""
