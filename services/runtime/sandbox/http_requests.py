"""Puts HTTP/1.1 requests together from what a socket gives. Pure; what comes in is treated as hostile and bounded.

RFC 9112, without what a client on this machine has no use for: no folded headers, no encodings but chunked.
"""

import re
from typing import NamedTuple

# awslambdaric sends up to 1 MiB of X-Ray cause in a header.
MAX_HEAD_BYTES = 1_310_720
MAX_TRAILER_BYTES = 1_310_720
MAX_CHUNK_LINE_BYTES = 4_096
# A body over its bound is read to its end, so that the client gets to read the refusal; but not without end.
MAX_DISCARDED_BYTES = 268_435_456

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?", re.DOTALL)

_HEAD, _DATA, _CHUNK_LINE, _CHUNK_END, _TRAILERS = range(5)


class BadRequest(ValueError):
    """No request can be made of it: to be answered with `status`, then the connection is of no use."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Request(NamedTuple):
    """One whole request.

    headers, trailers: by names in lower case; the values of a name that came twice are joined by a comma.
    body: empty when it was over the bound; body_bytes is what came in any case.
    """

    method: str
    target: str
    headers: "dict[str, str]"
    trailers: "dict[str, str]"
    body: bytes
    body_bytes: int
    keeps_alive: bool


class RequestReader:
    """One connection's requests, one after the other."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._looked_at = 0
        self._state = _HEAD
        self._method = self._target = ""
        self._keeps_alive = True
        self._headers: dict[str, str] = {}
        self._trailers: dict[str, str] = {}
        self._is_chunked = False
        self._left = 0
        self._body = bytearray()
        self._body_bytes = 0
        # The client waits for "100 Continue" before it sends the body; whoever says that clears it.
        self.wants_continue = False

    @property
    def buffered_bytes(self) -> int:
        """What came and is not part of a request yet."""
        return len(self._buffer)

    @property
    def is_within(self) -> bool:
        """Whether a request has begun and is not whole."""
        return bool(self._buffer) or self._state != _HEAD

    def feed(self, data: bytes) -> None:
        """Take what came; `next_request` tells what it gives."""
        self._buffer += data

    def next_request(self) -> "Request | None":
        """The next whole request, None while it is not whole. BadRequest: there will be none."""
        while True:
            if self._state == _HEAD:
                if not self._read_head():
                    return None
            elif self._state == _DATA:
                self._read_data()
                if self._left:
                    return None
                if not self._is_chunked:
                    return self._finish()
                self._state = _CHUNK_END
            elif self._state == _CHUNK_END:
                if len(self._buffer) < 2:
                    return None
                if self._buffer[:2] != b"\r\n":
                    raise BadRequest(400, "a chunk does not end where it says")
                del self._buffer[:2]
                self._state = _CHUNK_LINE
            elif self._state == _CHUNK_LINE:
                if not self._read_chunk_line():
                    return None
            elif not self._read_trailers():
                return None
            else:
                return self._finish()

    def _read_head(self) -> bool:
        buffer = self._buffer
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", max(0, self._looked_at - 3))
        if end < 0:
            self._looked_at = len(buffer)
            if len(buffer) > MAX_HEAD_BYTES:
                raise BadRequest(431, f"the headers have more than {MAX_HEAD_BYTES} bytes")
            return False
        if end > MAX_HEAD_BYTES:
            raise BadRequest(431, f"the headers have more than {MAX_HEAD_BYTES} bytes")
        first, _, rest = bytes(buffer[:end]).partition(b"\r\n")
        del buffer[: end + 4]
        self._looked_at = 0
        match = _REQUEST_LINE.fullmatch(first)
        if match is None:
            raise BadRequest(400, "the first line is no HTTP/1.1 request")
        self._method, self._target = match[1].decode(), match[2].decode()
        self._headers = headers = _fields(rest)
        connection = headers.get("connection", "").lower()
        self._keeps_alive = "close" not in connection if match[3] == b"1" else "keep-alive" in connection
        self._begin_body(headers)
        return True

    def _begin_body(self, headers: "dict[str, str]") -> None:
        self._body, self._body_bytes, self._trailers = bytearray(), 0, {}
        encoding, length = headers.get("transfer-encoding"), headers.get("content-length")
        self._is_chunked = encoding is not None
        if encoding is not None:
            # Both at once is how requests are smuggled past a reader that believes the other one.
            if encoding.lower() != "chunked" or length is not None:
                raise BadRequest(400, "Transfer-Encoding must be chunked, without Content-Length")
            self._state, self._left = _CHUNK_LINE, 0
        else:
            if length is not None and not _LENGTH.fullmatch(length):
                raise BadRequest(400, "Content-Length is no number of bytes")
            self._state, self._left = _DATA, int(length or 0)
        self.wants_continue = headers.get("expect", "").lower() == "100-continue" and (
            self._is_chunked or self._left > 0
        )

    def _read_data(self) -> None:
        taken = min(self._left, len(self._buffer))
        self._left -= taken
        self._body_bytes += taken
        if self._body_bytes + self._left > self._max_body_bytes:
            self._body = bytearray()
            if self._body_bytes > MAX_DISCARDED_BYTES:
                # Whole enough: it is refused for what came, and nothing more is read here.
                self._left, self._is_chunked, self._keeps_alive = 0, False, False
        else:
            self._body += self._buffer[:taken]
        del self._buffer[:taken]

    def _read_chunk_line(self) -> bool:
        end = self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_CHUNK_LINE_BYTES:
                raise BadRequest(400, "the line of a chunk has no end")
            return False
        match = _CHUNK_SIZE.fullmatch(bytes(self._buffer[:end]))
        if match is None:
            raise BadRequest(400, "a chunk does not say its size")
        del self._buffer[: end + 2]
        self._left = int(match[1], 16)
        self._state = _DATA if self._left else _TRAILERS
        return True

    def _read_trailers(self) -> bool:
        buffer = self._buffer
        if buffer[:2] == b"\r\n":
            del buffer[:2]
            return True
        end = buffer.find(b"\r\n\r\n", max(0, self._looked_at - 3))
        if end < 0:
            self._looked_at = len(buffer)
            if len(buffer) > MAX_TRAILER_BYTES:
                raise BadRequest(431, f"the trailers have more than {MAX_TRAILER_BYTES} bytes")
            return False
        self._trailers = _fields(bytes(buffer[:end]))
        del buffer[: end + 4]
        return True

    def _finish(self) -> Request:
        self._state, self._looked_at = _HEAD, 0
        self.wants_continue = False
        body, self._body = bytes(self._body), bytearray()
        return Request(
            self._method, self._target, self._headers, self._trailers, body, self._body_bytes, self._keeps_alive
        )


def _fields(text: bytes) -> "dict[str, str]":
    fields: dict[str, str] = {}
    for line in text.split(b"\r\n") if text else ():
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name) or _CONTROL.search(value):
            raise BadRequest(400, "a header is no name, colon and value on one line")
        key, found = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        fields[key] = f"{fields[key]}, {found}" if key in fields else found
    return fields
