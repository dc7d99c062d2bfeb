"""Writes a true-colour PNG (W3C Portable Network Graphics, second edition) with zlib and struct alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BITS, _TRUE_COLOUR = 8, 2
_FILTER_NONE = b"\x00"


def png_bytes(width: int, rows: Iterable[bytes]) -> bytes:
    """Return a PNG picture from its rows, each `3 * width` bytes of red, green and blue."""
    scanlines = bytearray()
    height = 0
    for row in rows:
        scanlines += _FILTER_NONE + row
        height += 1
    header = struct.pack(">IIBBBBB", width, height, _BITS, _TRUE_COLOUR, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(scanlines), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
