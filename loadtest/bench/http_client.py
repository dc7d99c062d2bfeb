"""A load generator for the HTTP door that leaves the machine to the fleet: bare HTTP/1.1 on kept-alive connections.

One request is under way on each connection, so connections are requests in flight. Responses are cut apart by hand:
the door's answers have a Content-Length and no trailer, and a full client would cost as much CPU as the door.
"""

import asyncio
from typing import cast

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_MAX_HEAD_BYTES = 16_384
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0


class HttpLoadError(RuntimeError):
    """The door answered something else than expected, or hung up."""


def invoke_request(host: str, function_name: str, payload: bytes, kind: str = "Event", more_headers: str = "") -> bytes:
    """The bytes of one Invoke request of the AWS Lambda API. more_headers: whole lines, each with its end."""
    head = (
        f"POST /2015-03-31/functions/{function_name}/invocations HTTP/1.1\r\n"
        f"Host: {host}\r\n{more_headers}X-Amz-Invocation-Type: {kind}\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def whole_response_bytes(data: bytes) -> int:
    """Length of the response that data begins with; 0 when it is not whole yet. HttpLoadError: no response."""
    end = data.find(_HEAD_END)
    if end < 0:
        if len(data) > _MAX_HEAD_BYTES:
            raise HttpLoadError("the head of a response does not end")
        return 0
    head = data[: end + 2].lower()
    at = head.find(_LENGTH)
    if at < 0:
        raise HttpLoadError(f"a response without length: {data[:200]!r}")
    total = end + len(_HEAD_END) + int(head[at + len(_LENGTH) : head.index(b"\r\n", at)])
    return total if len(data) >= total else 0


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last is whole."""

    def __init__(self, load: "HttpLoad") -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        """One request."""
        assert self._transport is not None
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        try:
            length = whole_response_bytes(data)
        except HttpLoadError as e:
            self._load.fail(e)
            return
        if not length:
            self._data = data
            return
        self._data = data[length:]
        if self._load.take_answer(data):
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(HttpLoadError(f"the door hung up: {exc or 'EOF'}"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class HttpLoad:
    """Connections to one door that all send the same request; use as an async context."""

    def __init__(self, host: str, port: int, request: bytes, connections: int, expected_status: bytes = b"202") -> None:
        self.request = request
        self._host, self._port = host, port
        self._size = connections
        self._start_of_answer = b"HTTP/1.1 " + expected_status
        self._connections: list[_Connection] = []
        self._to_send = self._to_answer = 0
        self._done: asyncio.Future[None] | None = None
        self._error: HttpLoadError | None = None

    async def __aenter__(self) -> "HttpLoad":
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            for _ in range(self._size):
                _, connection = await loop.create_connection(lambda: _Connection(self), self._host, self._port)
                self._connections.append(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done = None
        for connection in self._connections:
            connection.close()

    @property
    def is_broken(self) -> bool:
        """The door hung up or answered badly: make a new one."""
        return self._error is not None

    async def send(self, requests: int) -> None:
        """Send so many, at most one a connection at once, until all are answered. HttpLoadError: one was refused."""
        if self._error is not None:
            raise self._error
        self._to_send = self._to_answer = requests
        self._done = asyncio.get_running_loop().create_future()
        for connection in self._connections[:requests]:
            self._to_send -= 1
            connection.send()
        # An answer that never comes must not hang the bench; the bound grows with what was asked.
        async with asyncio.timeout(ANSWER_SECONDS + requests / 100):
            await self._done
        self._done = None

    def take_answer(self, data: bytes) -> bool:
        """Note an answer; True when the connection is to send once more."""
        if not data.startswith(self._start_of_answer):
            self.fail(HttpLoadError(f"the door answered {data[:400]!r}"))
            return False
        self._to_answer -= 1
        if self._to_answer == 0 and self._done is not None and not self._done.done():
            self._done.set_result(None)
        if self._to_send == 0:
            return False
        self._to_send -= 1
        return True

    def fail(self, error: HttpLoadError) -> None:
        """End the run, or the next one, with this error."""
        self._error = error
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
