"""The sandbox's HTTP reader: requests come out whole however they arrive, and what is none gets a typed answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.sandbox import http_requests
from services.runtime.sandbox.http_requests import BadRequest, Request, RequestReader

LIMIT = 1_000
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a/response HTTP/1.1\r\nContent-Length: 5\r\nX-Two: 1\r\nx-two: \t2 \r\n\r\nhello"
CHUNKED = (
    b"POST /b HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nTrailer: t\r\n\r\n"
    b"5;name=value\r\nhello\r\n00A\r\n, chunks..\r\n0\r\nT: error\r\n\r\n"
)


def read(data: bytes, limit: int = LIMIT) -> list[Request]:
    """All requests of these bytes."""
    reader = RequestReader(limit)
    reader.feed(data)
    found = []
    while (request := reader.next_request()) is not None:
        found.append(request)
    return found


def test_a_request_is_read_whole() -> None:
    """Method, target, headers in lower case, joined where a name came twice; the body as it is."""
    get, post = read(NEXT + POST)
    assert (get.method, get.target, get.body, get.keeps_alive) == (
        "GET",
        "/2018-06-01/runtime/invocation/next",
        b"",
        True,
    )
    assert post.headers == {"content-length": "5", "x-two": "1, 2"} and post.body == b"hello" and post.body_bytes == 5


def test_chunks_and_trailers() -> None:
    """Sizes in hexadecimal with extensions that mean nothing here; trailers apart from headers."""
    (request,) = read(CHUNKED)
    assert request.body == b"hello, chunks.." and request.trailers == {"t": "error"} and request.body_bytes == 15
    (bare,) = read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert (bare.body, bare.trailers) == (b"", {})


@given(st.lists(st.sampled_from([NEXT, POST, CHUNKED]), max_size=4), st.data())
def test_however_it_is_cut_the_requests_are_the_same(parts: list[bytes], data: st.DataObject) -> None:
    """One byte at a time or several requests at once."""
    whole = b"".join(parts)
    reader, found, at = RequestReader(LIMIT), [], 0
    while at < len(whole):
        size = data.draw(st.integers(1, 40))
        reader.feed(whole[at : at + size])
        at += size
        while (request := reader.next_request()) is not None:
            found.append(request)
    assert found == read(whole) and len(found) == len(parts) and reader.buffered_bytes == 0


@pytest.mark.parametrize(
    ("connection", "version", "keeps_alive"),
    [("", "1.1", True), ("close", "1.1", False), ("Keep-Alive", "1.0", True), ("", "1.0", False)],
)
def test_how_long_a_connection_lives(connection: str, version: str, keeps_alive: bool) -> None:
    """As RFC 9112 says for each version."""
    (request,) = read(f"GET / HTTP/{version}\r\nConnection: {connection}\r\n\r\n".encode())
    assert request.keeps_alive is keeps_alive


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5_000, 400),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * http_requests.MAX_HEAD_BYTES, 431),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * http_requests.MAX_TRAILER_BYTES,
            431,
        ),
    ],
)
def test_what_is_no_request_has_a_status(data: bytes, status: int) -> None:
    """Nothing is guessed."""
    with pytest.raises(BadRequest) as refused:
        read(data)
    assert refused.value.status == status


@given(st.binary(max_size=300), st.integers(0, 80))
def test_no_bytes_make_it_fail_otherwise(noise: bytes, at: int) -> None:
    """Requests with noise in them: requests, nothing yet, or BadRequest."""
    data = CHUNKED[:at] + noise + CHUNKED[at:]
    try:
        read(data)
    except BadRequest as e:
        assert e.status in (400, 431)


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1_001,
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501 + b"\r\n0\r\n\r\n",
    ],
)  # fmt: skip
def test_a_body_over_the_bound_is_counted_but_not_kept(data: bytes) -> None:
    """The next request on the connection is still understood."""
    large, following = read(data + NEXT)
    assert (large.body, large.body_bytes) == (b"", 1_001) and following.method == "GET"


def test_a_body_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading on has a bound, too."""
    monkeypatch.setattr(http_requests, "MAX_DISCARDED_BYTES", 5_000)
    reader = RequestReader(LIMIT)
    reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n")
    for _ in range(5):
        reader.feed(b"x" * 1_000)
        assert reader.next_request() is None and reader.buffered_bytes == 0
    reader.feed(b"x" * 1_000)
    request = reader.next_request()
    assert request is not None and (request.body, request.body_bytes, request.keeps_alive) == (b"", 6_000, False)


def test_who_waits_to_be_told_to_go_on_is_known() -> None:
    """Expect: 100-continue, until the body is there; not where there is no body."""
    reader = RequestReader(LIMIT)
    reader.feed(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next_request() is None and reader.wants_continue
    reader.feed(b"ok")
    assert reader.next_request() is not None and not reader.wants_continue
    (bare,) = read(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n")
    assert bare.body == b""
