"""HTTP/1.1 on a bare httptools parser: bounds on everything, no task and no scope dictionary for a request.

uvicorn is not used: with httptools it bounds neither header bytes nor bodies, answers malformed requests in plain text,
and costs a task a request (the design's spikes saw 26k/s for raw ASGI on uvicorn, 106k/s for a bare protocol).
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httptools

from services.shared.clock import Clock

MAX_URL_BYTES = 8_192
MAX_HEADER_BYTES = 32_768
MAX_HEADERS = 100
# Requests of one connection that wait for the one before; then nothing more is read.
MAX_PIPELINED = 16
# A body over its limit is read and dropped so that the caller can read the refusal; beyond this the connection is cut.
MAX_DISCARDED_BYTES = 67_108_864
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True, eq=False)
class HttpRequest:
    """A request as it arrived; header names in lower case, the last one of a name wins."""

    arrived_ms: float
    url: bytes = b""
    method: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    # What the last ones of their names won over, in order.
    repeated: tuple[tuple[bytes, bytes], ...] = ()
    # Which part of the door has it; the door's own, so that it looks once.
    route: Any = None
    parts: list[bytes] = field(default_factory=list)
    received_bytes: int = 0
    # Of those, in `parts`.
    kept_bytes: int = 0
    # Set at the end of the headers, by the door.
    limit_bytes: int = 0
    is_too_large: bool = False
    # The door's bound of bytes was reached while the body came.
    is_over_bound: bool = False
    is_http_1_1: bool = True
    keep_alive: bool = False
    has_ended: bool = False

    @property
    def body(self) -> bytes:
        """The whole body."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


class HttpHandler(Protocol):
    """What answers requests."""

    def body_limit(self, request: HttpRequest) -> int:
        """The largest body that is kept, from method, URL and headers."""
        ...

    def handle(self, connection: "HttpConnection", request: HttpRequest) -> None:
        """Answer, now or later, by `connection.answer(request, ...)`."""
        ...

    def malformed(self, message: str) -> bytes:
        """The whole response to what is no request."""
        ...

    def busy(self) -> bytes:
        """The whole response when there are too many connections or bytes."""
        ...

    def is_answered_soon(self, request: HttpRequest) -> bool:
        """False for what a caller that hangs up gives up: an EOF looks the same as a hang-up."""
        ...

    def gone(self, request: HttpRequest) -> None:
        """The caller went away before its answer."""
        ...


class HttpConnections:
    """Every open connection of the door, with the bounds that they share."""

    def __init__(
        self,
        handler: HttpHandler,
        clock: Clock,
        *,
        max_connections: int,
        max_buffered_bytes: int,
        idle_ms: float,
        request_ms: float,
    ) -> None:
        self.handler = handler
        self.clock = clock
        self.max_connections = max_connections
        self.max_buffered_bytes = max_buffered_bytes
        self.idle_ms = idle_ms
        self.request_ms = request_ms
        self.buffered_bytes = 0
        self.is_draining = False
        self.open: set[HttpConnection] = set()

    def make(self) -> "HttpConnection":
        """For the loop's create_server."""
        return HttpConnection(self)

    def sweep(self) -> None:
        """Close what is idle or sends too slowly; call it every second or so."""
        now_ms = self.clock.monotonic_ms()
        for connection in list(self.open):
            connection.close_if_late(now_ms)

    def drain(self) -> None:
        """Close idle connections now, the others after their answer."""
        self.is_draining = True
        for connection in list(self.open):
            connection.close_if_idle()

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self.open):
            connection.abort()


class HttpConnection(asyncio.Protocol):
    """One connection: one request is answered at a time, in order."""

    def __init__(self, connections: HttpConnections) -> None:
        self._all = connections
        self._handler = connections.handler
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._reading: HttpRequest | None = None
        self._header_bytes = 0
        self._header_count = 0
        self._current: HttpRequest | None = None
        self._queue: deque[HttpRequest] = deque()
        self._last_ms = 0.0
        self._broken = False
        self._write_paused = False
        self._read_paused = False
        self._is_stepping = False

    # What asyncio calls.
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller connected."""
        # No isinstance: uvloop's transports are not of asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        self._last_ms = self._all.clock.monotonic_ms()
        if len(self._all.open) >= self._all.max_connections or self._all.is_draining:
            transport.write(self._handler.busy())
            transport.close()
            self._broken = True
            return
        self._all.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller is gone; a request under way is told so."""
        self._all.open.discard(self)
        self._broken = True
        for request in (self._current, self._reading, *self._queue):
            if request is not None:
                self._drop_body(request)
        current, self._current = self._current, None
        self._queue.clear()
        self._reading = None
        self._transport = None
        if current is not None:
            self._handler.gone(current)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._broken:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No protocol is switched to: the request is answered as any other, then the connection ends.
            self._broken = True
            self._next()
        except httptools.HttpParserCallbackError as e:
            self._refuse(str(e.__context__ or e))
        except httptools.HttpParserError as e:
            self._refuse(str(e))

    def eof_received(self) -> bool:
        """The caller sends no more: wait for an answer that comes soon, else count the caller as gone."""
        self._broken = True
        return self._current is not None and self._handler.is_answered_soon(self._current)

    def pause_writing(self) -> None:
        """The caller does not read its answers: start no further request of it."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._write_paused = False
        self._next()

    # What the parser calls.
    def on_message_begin(self) -> None:
        """A request begins."""
        self._last_ms = self._all.clock.monotonic_ms()
        self._header_bytes = self._header_count = 0
        self._reading = HttpRequest(self._last_ms)

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        request = self._reading
        assert request is not None
        request.url += url
        if len(request.url) > MAX_URL_BYTES:
            raise ValueError(f"the URL is over {MAX_URL_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._header_bytes += len(name) + len(value)
        self._header_count += 1
        if self._header_bytes > MAX_HEADER_BYTES or self._header_count > MAX_HEADERS:
            raise ValueError(f"headers are over {MAX_HEADER_BYTES} bytes or {MAX_HEADERS} in number")
        request = self._reading
        assert request is not None
        lower = name.lower()
        if lower in request.headers:
            request.repeated = (*request.repeated, (lower, request.headers[lower]))
        request.headers[lower] = value

    def on_headers_complete(self) -> None:
        """All headers are there."""
        request = self._reading
        assert request is not None
        request.method = self._parser.get_method()
        request.is_http_1_1 = self._parser.get_http_version() == "1.1"
        request.keep_alive = request.is_http_1_1 and self._parser.should_keep_alive()
        headers = request.headers
        length = int(headers.get(b"content-length", b"0"))
        if length or b"transfer-encoding" in headers:
            request.limit_bytes = self._handler.body_limit(request)
            request.is_too_large = length > request.limit_bytes
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue" and self._transport is not None:
            if request.is_too_large:
                # The body was not sent yet: answer at once, without it.
                request.keep_alive = False
                self._broken = True
                self._finish(request)
            elif self._current is None:
                self._transport.write(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        request = self._reading
        if request is None or request.has_ended:
            return
        request.received_bytes += len(body)
        everything = self._all
        if request.is_too_large or request.is_over_bound:
            if request.received_bytes > MAX_DISCARDED_BYTES:
                self.abort()
        elif request.received_bytes > request.limit_bytes:
            request.is_too_large = True
            self._drop_body(request)
        elif everything.buffered_bytes + len(body) > everything.max_buffered_bytes:
            request.is_over_bound = True
            self._drop_body(request)
        else:
            request.kept_bytes += len(body)
            everything.buffered_bytes += len(body)
            request.parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self._reading
        if request is not None and not request.has_ended:
            self._finish(request)

    # What the door calls.
    @property
    def peer_ip(self) -> str:
        """The caller's address; empty once it is gone."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    def answer(self, request: HttpRequest, head: bytes, body: bytes = b"") -> None:
        """Send the response and go on with the next request. `head`: status line and headers without the empty line."""
        transport = self._transport
        if transport is None or request is not self._current:
            return
        self._drop_body(request)
        self._current = None
        if request.method == b"HEAD":
            body = b""
        is_last = not request.keep_alive or self._all.is_draining or (self._broken and not self._queue)
        if is_last:
            transport.write(b"".join((head, b"Connection: close\r\n\r\n", body)))
            self._broken = True
            transport.close()
        else:
            transport.write(b"".join((head, b"\r\n", body)))
            if self._queue:
                self._next()

    def close_if_late(self, now_ms: float) -> None:
        """Cut a caller that is idle, sends its request too slowly or does not read its answers."""
        if self._reading is not None or self._write_paused:
            if now_ms - self._last_ms > self._all.request_ms:
                self.abort()
        elif self._current is None and not self._queue and now_ms - self._last_ms > self._all.idle_ms:
            self.abort()

    def close_if_idle(self) -> None:
        """Close now when nothing is owed and nothing is arriving."""
        if self._current is None and not self._queue and self._reading is None and self._transport is not None:
            self._broken = True
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._broken = True
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, request: HttpRequest) -> None:
        request.has_ended = True
        self._reading = None
        self._queue.append(request)
        if len(self._queue) > MAX_PIPELINED and not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()
        if self._current is None:
            self._next()

    def _next(self) -> None:
        # A loop, not recursion: answers may come at once, and a caller may have thousands of requests in one chunk.
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._current is None and self._queue and not self._write_paused and self._transport is not None:
                self._current = self._queue.popleft()
                self._handler.handle(self, self._current)
        finally:
            self._is_stepping = False
        if self._read_paused and len(self._queue) <= MAX_PIPELINED and self._transport is not None:
            self._read_paused = False
            self._transport.resume_reading()

    def _refuse(self, message: str) -> None:
        self._broken = True
        if self._current is None and not self._queue and self._transport is not None:
            self._transport.write(self._handler.malformed(message))
            self._transport.close()

    def _drop_body(self, request: HttpRequest) -> None:
        if request.kept_bytes:
            self._all.buffered_bytes -= request.kept_bytes
            request.kept_bytes = 0
            request.parts.clear()
