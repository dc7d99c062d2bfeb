"""Reads the rows of a shard's file, whole or damaged: for export and repair. Nothing is ever written.

Rows are found by their trees. Where a tree has lost pages, leaf pages that hang on nothing are looked at, too, and told
apart by how many columns their rows have. A row counts only if it is one of this shard: its id names the shard, and its
event decodes and has that id.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenflow.common.v1.event_pb2 import Event
from google.protobuf.message import DecodeError

from services.queue.domain import LANE_SHIFT
from services.queue.pages import BROKEN, LEAF_INDEX, LEAF_TABLE, Pages, Tree
from services.shared import ids

# Columns of each table, the rowid's own place included.
WIDTHS = {"lanes": 3, "events": 17, "delayed": 18, "dead_letters": 21}
OUTCOME_WIDTH = 4
# Where request_id and event stand in a row.
EVENT_PLACES = {"events": (1, 16), "delayed": (2, 17), "dead_letters": (3, 20)}
MAX_LISTED = 10_000


@dataclass(slots=True)
class Losses:
    """What could not be read."""

    damaged_pages: list[int] = field(default_factory=list)
    damaged_cells: int = 0
    # Rows that are none of this shard, or whose event does not decode.
    refused_rows: dict[str, int] = field(default_factory=dict)
    refused_ids: list[str] = field(default_factory=list)
    is_schema_lost: bool = False
    is_wal_damaged: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether anything was passed over."""
        return bool(self.damaged_pages or self.damaged_cells or self.is_schema_lost or self.is_wal_damaged)


class Salvage:
    """One file; `rows` may be called for each table once or more."""

    def __init__(self, path: Path, shard_id: int | None) -> None:
        """`shard_id` None: whatever shard it says it is. OSError: it cannot be opened."""
        self.pages = Pages(path)
        self.losses = Losses(is_wal_damaged=self.pages.is_wal_damaged)
        self._visited: set[int] = set()
        self._roots = self._read_schema()
        self.meta = dict(self._read_meta())
        told = self.meta.get("shard_id")
        self.shard_id = shard_id if shard_id is not None else told if isinstance(told, int) else None
        # Known before any row is given out: only a file with lost pages has orphans that matter.
        self._orphans: list[int] | None = None

    def close(self) -> None:
        """Let the file go."""
        self.pages.close()

    def rows(self, table: str) -> Iterator[list[Any]]:
        """The table's rows as they stand in it, the rowid in its column."""
        places = EVENT_PLACES.get(table)
        for row in self._readable(table, WIDTHS[table], LEAF_TABLE):
            if places is None or self._is_ours(table, row[places[0]], row[places[1]]):
                yield row

    def outcomes(self) -> Iterator[tuple[int, list[Any]]]:
        """(bucket, row) of every outcome; bucket 0: its table is not known."""
        for name in sorted(self._roots):
            if name.startswith("outcomes_") and name[9:].isdecimal():
                for row in self._readable(name, OUTCOME_WIDTH, LEAF_INDEX, with_orphans=False):
                    yield int(name[9:]), row
        for row in self._orphan_rows(OUTCOME_WIDTH, LEAF_INDEX):
            yield 0, row

    def buckets(self) -> dict[int, int]:
        """When each bucket of outcomes was opened, as far as it is known."""
        found = self._readable("outcome_buckets", 2, LEAF_TABLE, with_orphans=False)
        return {row[0]: row[1] for row in found if isinstance(row[0], int) and isinstance(row[1], int)}

    def indexed_ids(self, table: str) -> Iterator[tuple[bytes, int]]:
        """(request id, rowid) of every entry of the table's unique index that can be read."""
        root = self._roots.get(f"{table}_by_request_id")
        tree = Tree()
        for _, row in self.pages.rows(root, tree) if root else ():
            if len(row) == 2 and isinstance(row[0], bytes) and isinstance(row[1], int):
                yield row[0], row[1]
        self._note(tree)

    def _readable(self, table: str, width: int, leaf_kind: int, *, with_orphans: bool = True) -> Iterator[list[Any]]:
        tree = Tree()
        root = self._roots.get(table)
        for rowid, row in self.pages.rows(root, tree) if root else ():
            if len(row) == width:
                yield _with_rowid(row, rowid)
            else:
                tree.damaged_cells += 1
        self._note(tree)
        if with_orphans:
            yield from self._orphan_rows(width, leaf_kind)

    def _orphan_rows(self, width: int, leaf_kind: int) -> Iterator[list[Any]]:
        for number in self._find_orphans():
            try:
                if self.pages.page(number)[0] != leaf_kind:
                    continue
                for rowid, row in self.pages.content(number, Tree())[1]:
                    if len(row) == width:
                        yield _with_rowid(row, rowid)
            except BROKEN:
                continue

    def _find_orphans(self) -> list[int]:
        """Pages of no tree, once; only of a file in which a tree has lost some."""
        if self._orphans is None:
            for root in self._roots.values():
                tree = Tree()
                for _ in self.pages.rows(root, tree):
                    pass
                self._note(tree)
            self._orphans = []
            if self.losses.damaged_pages or self.losses.is_schema_lost:
                # A page that was freed still holds rows that were deleted.
                skipped = self._visited | self.pages.free_pages()
                self._orphans = [n for n in range(1, self.pages.count + 1) if n not in skipped]
        return self._orphans

    def _is_ours(self, table: str, request_id: Any, stored: Any) -> bool:
        try:
            is_ours = (self.shard_id is None or ids.shard_of(request_id) == self.shard_id) and Event.FromString(
                stored
            ).request_id == request_id
        except (DecodeError, ValueError, TypeError):
            is_ours = False
        if not is_ours:
            self.losses.refused_rows[table] = self.losses.refused_rows.get(table, 0) + 1
            if isinstance(request_id, bytes) and len(request_id) == 16 and len(self.losses.refused_ids) < MAX_LISTED:
                self.losses.refused_ids.append(ids.to_text(request_id))
        return is_ours

    def _read_schema(self) -> dict[str, int]:
        roots: dict[str, int] = {}
        tree = Tree()
        for _, row in self.pages.rows(1, tree):
            if len(row) == 5 and isinstance(row[1], str) and isinstance(row[3], int) and row[3] > 0:
                roots[row[1]] = row[3]
        self._note(tree)
        self.losses.is_schema_lost = not roots or bool(tree.damaged_pages or tree.damaged_cells)
        return roots

    def _read_meta(self) -> Iterator[tuple[str, Any]]:
        for row in self._readable("meta", 2, LEAF_INDEX, with_orphans=False):
            if isinstance(row[0], str):
                yield row[0], row[1]

    def _note(self, tree: Tree) -> None:
        fresh = tree.pages - self._visited
        self._visited |= tree.pages
        self.losses.damaged_pages += [number for number in tree.damaged_pages if number in fresh]
        if fresh:
            self.losses.damaged_cells += tree.damaged_cells


def _with_rowid(row: list[Any], rowid: int) -> list[Any]:
    """A rowid's column is stored as NULL."""
    if rowid and row and row[0] is None:
        row[0] = rowid
    return row


def lane_of(table: str, row: list[Any]) -> int:
    """The lane of a row that has one."""
    lane_id: int = row[0] >> LANE_SHIFT if table == "events" else row[1]
    return lane_id
