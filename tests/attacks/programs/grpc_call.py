"""One gRPC call by hand: HTTP/2 frames over a socket, as much as it takes to see whether anything comes back."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
MAX_FRAMES = 64


def call(connection: socket.socket, path: str, metadata: "dict[str, str]") -> bytes:
    """The first message of the answer, b"" when the call ends without one. OSError: the connection fails."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **metadata,
    }
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    request = PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block)
    # An empty message: one byte "not compressed", four of length.
    connection.sendall(request + _frame(_DATA, _END_STREAM, 1, bytes(5)))
    for _ in range(MAX_FRAMES):
        kind, flags, stream, content = _read_frame(connection)
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _DATA and len(content) > 5:
            return content[5:]
        elif kind == _GOAWAY or (stream == 1 and flags & _END_STREAM):
            return b""
    return b""


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) >= 127:
        raise ValueError("short texts only")
    return bytes([len(data)]) + data


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack("!I", len(content))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + content


def _read_frame(connection: socket.socket) -> "tuple[int, int, int, bytes]":
    head = _read(connection, 9)
    size = int.from_bytes(head[:3], "big")
    (stream,) = struct.unpack("!I", head[5:9])
    return head[3], head[4], stream, _read(connection, size)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionResetError(104, "closed")
        data += part
    return data
