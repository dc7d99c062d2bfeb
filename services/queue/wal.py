"""What stands in a shard's WAL behind the place where SQLite stopped reading.

A crash leaves at most one transaction that never got through its fsync: SQLite passes it over, and rightly so. But it
passes over a frame that rotted in the middle in the same way, and with it every later transaction, each of which was
durable and answered. The two are told apart by the checksums, which run on from frame to frame: two commits in one
chain behind the stop mean that the first was synced before the second was written, so the stop is damage.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class WalHeader:
    """The first 32 bytes."""

    order: str
    page_bytes: int
    salts: bytes
    checksum: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One page as a transaction wrote it; `commit_pages` is the file's size in pages where it ends one, else 0."""

    page_number: int
    commit_pages: int
    checksum: tuple[int, int]
    page: bytes
    # It has the header's salts, and its checksum continues that of the frame before it.
    is_chained: bool


def read_header(file: BinaryIO) -> WalHeader | None:
    """The header; None: it is too short or damaged."""
    file.seek(0)
    head = file.read(HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        return None
    magic, _, page_bytes = struct.unpack_from(">III", head)
    if magic & ~1 != _MAGIC or not 512 <= page_bytes <= 65_536 or page_bytes & (page_bytes - 1):
        return None
    order = ">" if magic & 1 else "<"
    stored: tuple[int, int] = struct.unpack_from(">II", head, 24)
    if checksum(order, head[:24], (0, 0)) != stored:
        return None
    return WalHeader(order, page_bytes, head[16:24], stored)


def read_frame(file: BinaryIO, header: WalHeader, index: int, before: tuple[int, int]) -> Frame | None:
    """The frame at this place, 0-based; `before` is the stored checksum of the one before it. None: the file ends."""
    file.seek(HEADER_BYTES + index * (FRAME_HEADER_BYTES + header.page_bytes))
    head = file.read(FRAME_HEADER_BYTES)
    page = file.read(header.page_bytes)
    if len(page) < header.page_bytes:
        return None
    page_number, commit_pages = struct.unpack_from(">II", head)
    stored: tuple[int, int] = struct.unpack_from(">II", head, 16)
    is_ours = page_number > 0 and head[8:16] == header.salts
    is_chained = is_ours and checksum(header.order, head[:8] + page, before) == stored
    return Frame(page_number, commit_pages, stored, page, is_chained)


def find_damage(path: Path, accepted_frames: int) -> str | None:
    """Why the WAL has lost transactions that were durable, or None; `accepted_frames`: how many SQLite reads of it."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        header = read_header(file)
        if header is None:
            file.seek(HEADER_BYTES)
            # A fresh WAL's header is synced before its first frame is written.
            has_frames = any(file.read(FRAME_HEADER_BYTES))
            return "the header of its WAL is damaged: what it held is out of reach" if has_frames else None
        before = header.checksum
        if accepted_frames:
            last = read_frame(file, header, accepted_frames - 1, (0, 0))
            before = last.checksum if last is not None else before
        commits, index = 0, accepted_frames
        while (frame := read_frame(file, header, index, before)) is not None:
            commits = commits + (frame.commit_pages > 0) if frame.is_chained else 0
            if commits > 1:
                return f"its WAL is damaged behind frame {accepted_frames}: later transactions are out of reach"
            before, index = frame.checksum, index + 1
    return None


def checksum(order: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's running checksum over these bytes, a multiple of 8."""
    first, second = start
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & _MASK
        second = (second + words[at + 1] + first) & _MASK
    return first, second
