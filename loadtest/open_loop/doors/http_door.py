"""The AWS API on bare, kept-alive HTTP/1.1: one request is under way on each connection, answers are cut by hand."""

import asyncio
import json
import time
from typing import cast

from loadtest.bench.http_client import HttpLoadError, invoke_request, whole_response_bytes
from loadtest.open_loop.outcomes import CONNECTION, Outcomes
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.work import is_asked

CONNECTIONS_AT_FIRST = 8
_STATUS = slice(9, 12)
_ERROR_TYPE = b"x-amzn-errortype:"
_REQUEST_ID = b"x-amzn-requestid:"
_FUNCTION_ERROR = b"x-amz-function-error:"
_IDLE = -1


class _Connection(asyncio.Protocol):
    """`place`: of the event whose answer is awaited; _IDLE: none."""

    def __init__(self, door: "HttpDoor") -> None:
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self.place = _IDLE
        self.sent_ns = 0
        self.is_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, place: int, request: bytes) -> None:
        assert self._transport is not None
        self.place = place
        self.sent_ns = time.monotonic_ns()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        try:
            length = whole_response_bytes(data)
        except (HttpLoadError, ValueError):
            self.abort()
            return
        if not length:
            self._data = data
            return
        self._data = data[length:]
        place, self.place = self.place, _IDLE
        if place != _IDLE:
            self._door.answered(self, place, data[:length])

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._door.lost(self)

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class HttpDoor:
    """See Door. A send that finds no free connection opens one more, up to in_flight."""

    def __init__(self, spec: LoadSpec, in_flight: int, outcomes: Outcomes) -> None:
        self._spec = spec
        self._most = in_flight
        self._outcomes = outcomes
        self._kind = "RequestResponse" if spec.synchronous else "Event"
        self._good = b"200" if spec.synchronous else b"202"
        self._headers = [f"Authorization: {credential_of(key)}\r\n" for key in spec.keys]
        self._connections: set[_Connection] = set()
        # The one that answered last is used next: its memory is warm, and idle ones may close.
        self._free: list[_Connection] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Some connections, when the door is there."""
        for _ in range(min(CONNECTIONS_AT_FIRST, self._most)):
            try:
                self._free.append(await self._connect())
            except (OSError, TimeoutError):
                return

    def request(self, tenant: int, payload: bytes) -> bytes:
        """The whole request."""
        headers = self._headers[tenant] if tenant < len(self._headers) else ""
        return invoke_request(self._spec.host, self._spec.function, payload, self._kind, headers)

    def send(self, place: int, tenant: int, request: bytes) -> bool:
        """On a free connection, or on a new one."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._outcomes.sent(place)
                connection.send(place, request)
                return True
        if len(self._connections) + len(self._opening) >= self._most:
            return False
        self._outcomes.sent(place)
        task = asyncio.get_running_loop().create_task(self._open_for(place, request))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return True

    def answered(self, connection: _Connection, place: int, data: bytes) -> None:
        """The connection is free again, and this is the answer."""
        # First: whoever is told of the answer may send the next event on it.
        self._free.append(connection)
        if data[_STATUS] == self._good:
            if self._spec.synchronous and _header(data, _FUNCTION_ERROR) and not is_asked(_error_type(data)):
                self._outcomes.failed(place)
            elif self._outcomes.accepted(place) and not self._spec.synchronous:
                self._outcomes.remember(place, _header(data, _REQUEST_ID))
        else:
            self._outcomes.refused(place, _header(data, _ERROR_TYPE) or data[_STATUS].decode("latin-1"))

    def lost(self, connection: _Connection) -> None:
        """The connection is closed, by whomever."""
        self._connections.discard(connection)
        place, connection.place = connection.place, _IDLE
        if place != _IDLE:
            self._outcomes.refused(place, CONNECTION)

    def expire(self, now_ns: int) -> None:
        """Hang up where no answer came in time."""
        bound_ns = now_ns - int(self._spec.answer_seconds * 1e9)
        for connection in tuple(self._connections):
            if connection.place != _IDLE and connection.sent_ns < bound_ns:
                place, connection.place = connection.place, _IDLE
                self._outcomes.unanswered(place)
                connection.abort()

    async def close(self) -> None:
        """Hang up everywhere; what was under way stays so."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.place = _IDLE
            connection.abort()

    async def _open_for(self, place: int, request: bytes) -> None:
        try:
            connection = await self._connect()
        except TimeoutError:
            self._outcomes.unanswered(place)
        except OSError:
            self._outcomes.refused(place, CONNECTION)
        else:
            if connection.is_open:
                connection.send(place, request)
            else:
                self._outcomes.refused(place, CONNECTION)

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._spec.answer_seconds):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), self._spec.host, self._spec.http_port
            )
        self._connections.add(connection)
        return connection


def credential_of(key: str) -> str:
    """An Authorization header by which an open door tells the tenant; it proves nothing. key: "ID:SECRET"."""
    return f"AWS4-HMAC-SHA256 Credential={key.partition(':')[0]}/load"


def _error_type(data: bytes) -> str:
    try:
        told = json.loads(data[data.find(b"\r\n\r\n") :])
    except ValueError:
        return ""
    return str(told.get("errorType", "")) if isinstance(told, dict) else ""


def _header(data: bytes, name: bytes) -> str:
    head = data[: data.find(b"\r\n\r\n") + 2]
    at = head.lower().find(name)
    if at < 0:
        return ""
    return head[at + len(name) : head.index(b"\r\n", at)].strip().decode("latin-1")
