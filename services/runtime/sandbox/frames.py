"""The wire between a host and one sandbox: length-prefixed binary frames on a private stream socket.

Every frame: 4 bytes length of the rest, 1 byte kind, the kind's fixed fields, its variable parts. Both ends run on one
machine and are of one version. What comes out of a sandbox is treated as hostile: `Assembler` bounds it, `parse_*`
refuse whatever does not fit.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

INVOKE = 1
READY = 2
INIT_ERROR = 3
FAULT = 4
RESULT = 5
GO = 6
CONFIGURE = 7

# AWS's limit of a response, and room for the error text and the fixed fields on top.
MAX_RESPONSE_BYTES = 6_291_556
MAX_FRAME_BYTES = MAX_RESPONSE_BYTES + 65_536
MAX_CONFIGURATION_BYTES = 131_072
MAX_ERROR_TYPE_BYTES = 256
MAX_ERROR_MESSAGE_BYTES = 1_024

LENGTH = struct.Struct("!I")
_INVOKE = struct.Struct("!IB16sBIHHHI")
_CONFIGURE = struct.Struct("!IB")
_GO_FRAME = struct.pack("!IB", 1, GO)
_READY = struct.Struct("!IBQI")
_ERROR = struct.Struct("!IBHHI")
_RESULT = struct.Struct("!IB16sBQQIHHI")
_IS_ERROR = 1
_HAS_OUTPUT = 2
_ALL_FLAGS = _IS_ERROR | _HAS_OUTPUT


class Invoke(NamedTuple):
    """One run; the payload is JSON, unparsed.

    is_ahead: it was sent while another run was under way, so that the sandbox need not wait for it.
    """

    request_id: bytes
    is_ahead: bool
    timeout_ms: int
    arn: bytes
    trace_header: bytes
    client_context: bytes
    payload: bytes


class Ready(NamedTuple):
    """The handler is loaded: time it took in the sandbox, peak memory."""

    init_us: int
    max_rss_kb: int


class Failure(NamedTuple):
    """The handler could not be loaded (INIT_ERROR), or the sandbox could not be made (FAULT)."""

    error_type: bytes
    error_message: bytes
    payload: bytes


class Result(NamedTuple):
    """How a run ended; an error has a type.

    has_output: the run's output may still be in the pipe. A run that was sent ahead then waits for GO, so that the log
    stays in order.
    """

    request_id: bytes
    is_error: bool
    has_output: bool
    started_ns: int
    duration_us: int
    max_rss_kb: int
    error_type: bytes
    error_message: bytes
    payload: bytes


def pack_invoke(
    request_id: bytes,
    timeout_ms: int,
    arn: bytes,
    trace_header: bytes,
    client_context: bytes,
    payload: bytes,
    *,
    is_ahead: bool = False,
) -> bytes:
    """An INVOKE frame. struct.error: a part is over its bound."""
    sizes = len(arn), len(trace_header), len(client_context), len(payload)
    length = _INVOKE.size - 4 + sum(sizes)
    head = _INVOKE.pack(length, INVOKE, request_id, is_ahead, timeout_ms, *sizes)
    return b"".join((head, arn, trace_header, client_context, payload))


def pack_configure(configuration: bytes) -> bytes:
    """The first frame to a sandbox: what it shall be, as JSON. ValueError: over its bound."""
    if len(configuration) > MAX_CONFIGURATION_BYTES:
        size = f"{len(configuration):,} bytes; at most {MAX_CONFIGURATION_BYTES:,} are possible"
        raise ValueError(f"a sandbox's configuration has {size}")
    return _CONFIGURE.pack(1 + len(configuration), CONFIGURE) + configuration


def read_configure(receive: "Callable[[int], bytes]") -> bytes:
    """The first frame's JSON, taken from the socket to its last byte and no further; empty: the host closed it."""
    frame = bytearray()
    wanted = _CONFIGURE.size
    while len(frame) < wanted:
        data = receive(wanted - len(frame))
        if not data:
            return b""
        frame += data
        if len(frame) == _CONFIGURE.size:
            length, kind = _CONFIGURE.unpack_from(frame)
            if kind != CONFIGURE or length > MAX_CONFIGURATION_BYTES + 1:
                raise ValueError("the first frame is no configuration")
            wanted = 4 + length
    return bytes(frame[_CONFIGURE.size :])


def pack_go() -> bytes:
    """A GO frame: the output of the last run was taken."""
    return _GO_FRAME


def pack_ready(init_us: int, max_rss_kb: int) -> bytes:
    """A READY frame."""
    return _READY.pack(_READY.size - 4, READY, init_us, max_rss_kb)


def pack_failure(kind: int, error_type: str, error_message: str, payload: bytes) -> bytes:
    """An INIT_ERROR or FAULT frame; texts are cut to their bounds."""
    type_bytes, message_bytes = _cut(error_type, MAX_ERROR_TYPE_BYTES), _cut(error_message, MAX_ERROR_MESSAGE_BYTES)
    length = _ERROR.size - 4 + len(type_bytes) + len(message_bytes) + len(payload)
    head = _ERROR.pack(length, kind, len(type_bytes), len(message_bytes), len(payload))
    return b"".join((head, type_bytes, message_bytes, payload))


def pack_result(
    request_id: bytes,
    started_ns: int,
    duration_us: int,
    max_rss_kb: int,
    payload: bytes,
    error_type: str = "",
    error_message: str = "",
    *,
    has_output: bool = False,
) -> bytes:
    """A RESULT frame; it is an error when it has a type."""
    type_bytes, message_bytes = _cut(error_type, MAX_ERROR_TYPE_BYTES), _cut(error_message, MAX_ERROR_MESSAGE_BYTES)
    length = _RESULT.size - 4 + len(type_bytes) + len(message_bytes) + len(payload)
    head = _RESULT.pack(
        length,
        RESULT,
        request_id,
        (_IS_ERROR if error_type else 0) | (_HAS_OUTPUT if has_output else 0),
        started_ns,
        duration_us,
        min(max_rss_kb, 0xFFFFFFFF),
        len(type_bytes),
        len(message_bytes),
        len(payload),
    )
    return b"".join((head, type_bytes, message_bytes, payload))


def kind_of(frame: bytes) -> int:
    """The kind of a whole frame. ValueError: too short."""
    if len(frame) < 5:
        raise ValueError("a frame has at least 5 bytes")
    return frame[4]


def parse_invoke(frame: bytes) -> Invoke:
    """The parts of an INVOKE frame. ValueError: they do not fit."""
    _, _, request_id, is_ahead, timeout_ms, *sizes = _fields(_INVOKE, frame, INVOKE)
    arn, trace_header, client_context, payload = _parts(frame, _INVOKE.size, sizes)
    return Invoke(request_id, bool(is_ahead), timeout_ms, arn, trace_header, client_context, payload)


def parse_ready(frame: bytes) -> Ready:
    """The parts of a READY frame. ValueError: they do not fit."""
    _, _, init_us, max_rss_kb = _fields(_READY, frame, READY)
    _parts(frame, _READY.size, [])
    return Ready(init_us, max_rss_kb)


def parse_failure(frame: bytes) -> Failure:
    """The parts of an INIT_ERROR or FAULT frame. ValueError: they do not fit."""
    _, _, *sizes = _fields(_ERROR, frame, kind_of(frame))
    return Failure(*_parts(frame, _ERROR.size, sizes))


def parse_result(frame: bytes) -> Result:
    """The parts of a RESULT frame. ValueError: they do not fit."""
    _, _, request_id, flags, started_ns, duration_us, rss, *sizes = _fields(_RESULT, frame, RESULT)
    error_type, error_message, payload = _parts(frame, _RESULT.size, sizes)
    if len(payload) > MAX_RESPONSE_BYTES or len(error_type) > MAX_ERROR_TYPE_BYTES:
        raise ValueError("a result is over its bound")
    is_error, has_output = bool(flags & _IS_ERROR), bool(flags & _HAS_OUTPUT)
    if len(error_message) > MAX_ERROR_MESSAGE_BYTES or flags > _ALL_FLAGS or bool(error_type) != is_error:
        raise ValueError("a result contradicts itself")
    return Result(request_id, is_error, has_output, started_ns, duration_us, rss, error_type, error_message, payload)


def _fields(layout: struct.Struct, frame: bytes, kind: int) -> "tuple[Any, ...]":
    if len(frame) < layout.size or frame[4] != kind:
        raise ValueError(f"no frame of kind {kind}")
    return layout.unpack_from(frame)


def _parts(frame: bytes, offset: int, sizes: "list[int]") -> "list[bytes]":
    if offset + sum(sizes) != len(frame):
        raise ValueError("the parts of a frame do not add up to its length")
    parts = []
    for size in sizes:
        parts.append(frame[offset : offset + size])
        offset += size
    return parts


def _cut(text: str, limit: int) -> bytes:
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


class Assembler:
    """Puts frames together from what a socket gives; ValueError for one that is over the bound."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> "list[bytes]":
        """The frames that are whole now."""
        buffer = self._buffer
        if not buffer and len(data) >= 4:
            (length,) = LENGTH.unpack_from(data)
            # The common case: one read, one frame, no copy.
            if length + 4 == len(data) and length <= self._limit:
                return [data]
        buffer += data
        frames = []
        while len(buffer) >= 4:
            (length,) = LENGTH.unpack_from(buffer)
            if length > self._limit:
                raise ValueError(f"a frame of {length} bytes is over the bound of {self._limit}")
            if len(buffer) < length + 4:
                break
            frames.append(bytes(buffer[: length + 4]))
            del buffer[: length + 4]
        return frames
