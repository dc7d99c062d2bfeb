"""Reads a SQLite file page by page, without SQLite: what is left of a damaged one. Nothing is ever written.

The format is that of https://www.sqlite.org/fileformat2.html. A page, cell or record that breaks it is passed over and
noted; everything else is given out. Pages of the WAL stand before those of the file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from services.queue import wal
from services.queue.database import PAGE_BYTES

INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE = 2, 5, 10, 13
# A row is an event of a little more than 1 MiB, or an outcome; more is damage.
MAX_PAYLOAD_BYTES = 4 << 20
_INT_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
# What a damaged structure raises while it is read.
BROKEN = (IndexError, ValueError, struct.error, OverflowError, OSError)


class Damaged(ValueError):
    """A page or a cell is not what it must be."""


@dataclass(slots=True)
class Tree:
    """What a walk through one tree met."""

    pages: set[int] = field(default_factory=set)
    damaged_pages: list[int] = field(default_factory=list)
    damaged_cells: int = 0


class Pages:
    """The pages of one file with its WAL."""

    def __init__(self, path: Path) -> None:
        """OSError: the file cannot be opened."""
        self._file = open(path, "rb")  # noqa: SIM115  # closed by `close`
        self.size = PAGE_BYTES
        self.count = -(-path.stat().st_size // self.size)
        self.is_wal_damaged = False
        self._newest: dict[int, bytes] = {}
        self._read_wal(Path(f"{path}-wal"))

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def page(self, number: int) -> bytes:
        """The page, 1-based. Damaged: it is not there or cannot be read."""
        found = self._newest.get(number)
        if found is not None:
            return found
        if not 1 <= number <= self.count:
            raise Damaged(f"page {number} is outside the file")
        try:
            self._file.seek((number - 1) * self.size)
            data = self._file.read(self.size)
        except OSError as e:
            raise Damaged(f"page {number}: {e}") from e
        if len(data) < self.size:
            raise Damaged(f"page {number} is cut")
        return data

    def rows(self, root: int, tree: Tree) -> Iterator[tuple[int, list[Any]]]:
        """(rowid, columns) of every readable row below this root; of an index the rowid is 0."""
        waiting = [root]
        while waiting:
            number = waiting.pop()
            if number in tree.pages:
                continue
            tree.pages.add(number)
            try:
                children, rows = self.content(number, tree)
            except BROKEN:
                tree.damaged_pages.append(number)
                continue
            waiting.extend(reversed(children))
            yield from rows

    def content(self, number: int, tree: Tree) -> tuple[list[int], list[tuple[int, list[Any]]]]:
        """Children and rows of one page; a broken cell is counted and passed over. Any of BROKEN: the page is none."""
        data = self.page(number)
        start = 100 if number == 1 else 0
        kind, cells = data[start], struct.unpack_from(">H", data, start + 3)[0]
        if kind not in (INTERIOR_INDEX, INTERIOR_TABLE, LEAF_INDEX, LEAF_TABLE):
            raise Damaged(f"page {number} is of no tree")
        is_interior = kind in (INTERIOR_INDEX, INTERIOR_TABLE)
        first = start + (12 if is_interior else 8)
        if first + 2 * cells > self.size:
            raise Damaged(f"page {number} has too many cells")
        children: list[int] = []
        rows: list[tuple[int, list[Any]]] = []
        for offset in struct.unpack_from(f">{cells}H", data, first):
            at = offset
            try:
                if at < first + 2 * cells:
                    raise Damaged("a cell in the header")
                if is_interior:
                    children.append(struct.unpack_from(">I", data, at)[0])
                    at += 4
                if kind != INTERIOR_TABLE:
                    rows.append(self._cell(data, at, kind == LEAF_TABLE, tree))
            except BROKEN:
                tree.damaged_cells += 1
        if is_interior:
            children.append(struct.unpack_from(">I", data, start + 8)[0])
        return children, rows

    def free_pages(self) -> set[int]:
        """Pages that hold nothing any more, as far as their list can be read."""
        found: set[int] = set()
        try:
            trunk = struct.unpack_from(">I", self.page(1), 32)[0]
            while trunk and trunk not in found:
                found.add(trunk)
                data = self.page(trunk)
                following, leaves = struct.unpack_from(">II", data)
                if leaves > self.size // 4 - 2:
                    break
                found.update(struct.unpack_from(f">{leaves}I", data, 8))
                trunk = following
        except BROKEN:
            pass
        return found

    def _cell(self, data: bytes, at: int, is_table: bool, tree: Tree) -> tuple[int, list[Any]]:
        length, at = _varint(data, at)
        rowid = 0
        if is_table:
            rowid, at = _varint(data, at)
            rowid = rowid - (1 << 64) if rowid >> 63 else rowid
        if length > MAX_PAYLOAD_BYTES:
            raise Damaged("a row too long")
        most = self.size - 35 if is_table else (self.size - 12) * 64 // 255 - 23
        local = length
        if length > most:
            least = (self.size - 12) * 32 // 255 - 23
            local = least + (length - least) % (self.size - 4)
            local = local if local <= most else least
        payload = data[at : at + local]
        if len(payload) < local:
            raise Damaged("a row beyond its page")
        if length > local:
            payload += self._overflow(struct.unpack_from(">I", data, at + local)[0], length - local, tree)
        return rowid, _record(payload)

    def _overflow(self, number: int, length: int, tree: Tree) -> bytes:
        parts: list[bytes] = []
        numbers: list[int] = []
        while length > 0:
            data = self.page(number)
            numbers.append(number)
            part = data[4 : 4 + min(length, self.size - 4)]
            parts.append(part)
            length -= len(part)
            number = struct.unpack_from(">I", data)[0]
        tree.pages.update(numbers)
        return b"".join(parts)

    def _read_wal(self, path: Path) -> None:
        """Take every transaction that is whole; behind damage, too, for what was durable once must not be lost."""
        if not path.exists():
            return
        with open(path, "rb") as file:
            header = wal.read_header(file)
            if header is None or header.page_bytes != self.size:
                self.is_wal_damaged = any(file.read(1))
                return
            accepted = self._take_frames(file, header, 0, header.checksum, past_damage=False)
            # A torn last transaction was never durable; what stands behind damage was.
            self.is_wal_damaged = wal.find_damage(path, accepted) is not None
            if self.is_wal_damaged:
                self._take_frames(file, header, accepted, (0, 0), past_damage=True)

    def _take_frames(
        self, file: BinaryIO, header: wal.WalHeader, index: int, before: tuple[int, int], *, past_damage: bool
    ) -> int:
        """Take the pages of whole transactions from this frame on; the frames up to the last of them."""
        accepted = index
        pending: dict[int, bytes] = {}
        while (frame := wal.read_frame(file, header, index, before)) is not None:
            if not frame.is_chained and not past_damage:
                break
            before, index = frame.checksum, index + 1
            if frame.is_chained:
                pending[frame.page_number] = frame.page
                if frame.commit_pages:
                    self._newest.update(pending)
                    self.count = max(self.count, frame.commit_pages)
                    pending, accepted = {}, index
        return accepted


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1


def _record(payload: bytes) -> list[Any]:
    """The values of one record. Damaged, IndexError, UnicodeDecodeError."""
    head, at = _varint(payload, 0)
    body = head
    if not at <= head <= len(payload):
        raise Damaged("a record's head beyond its end")
    values: list[Any] = []
    while at < head:
        kind, at = _varint(payload, at)
        if kind >= 12:
            length = (kind - 12) // 2
            part = payload[body : body + length]
            values.append(part if kind % 2 == 0 else part.decode())
        elif kind in _INT_BYTES:
            length = _INT_BYTES[kind]
            part = payload[body : body + length]
            values.append(int.from_bytes(part, "big", signed=True))
        elif kind == 7:
            length = 8
            part = payload[body : body + 8]
            values.append(struct.unpack(">d", part)[0])
        elif kind in (0, 8, 9):
            length, part = 0, b""
            values.append((None, 0, 1)[(0, 8, 9).index(kind)])
        else:
            raise Damaged(f"a value of kind {kind}")
        if len(part) < length:
            raise Damaged("a value beyond its record")
        body += length
    if at != head or body != len(payload):
        raise Damaged("a record of another length")
    return values
