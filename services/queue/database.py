"""One shard's SQLite file: opening, transactions, and statements that write many rows in one step.

apsw gives up the interpreter's lock at each step of a statement, and under load the event loop then keeps it for a
whole turn. So rows are written by statements of many rows: measured beside a busy loop, 11 times the speed of
executemany.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw

SQL_DIRECTORY = Path(__file__).parent / "sql"
PAGE_BYTES = 4_096
# Prepared statements kept; each bulk statement has one for each of its sizes.
STATEMENT_CACHE = 512
# apsw keeps no longer text prepared: it would be parsed at every use.
MAX_CACHED_BYTES = 16_000
JOURNAL_LIMIT_BYTES = 64 << 20
_FIXED_BRANCHES = {(3, 50): 7, (3, 44): 6}
_FIRST_FIXED = (3, 51, 3)


class WriteOutcomeUnknown(Exception):
    """A commit failed in a way that leaves open whether it happened: the file must be reopened and looked at."""


class DiskFull(Exception):
    """There is no room on the volume; the transaction was rolled back."""


def is_safe_sqlite(version: str) -> bool:
    """Whether this SQLite is free of the WAL-reset bug (3.7.0 to 3.51.2, but for two fixed branches)."""
    parts = tuple(int(part) for part in version.split(".")[:3])
    fixed = _FIXED_BRANCHES.get((parts[0], parts[1]))
    return parts >= _FIRST_FIXED or (fixed is not None and parts[2] >= fixed)


def require_safe_sqlite() -> None:
    """ValueError: the SQLite at hand can corrupt a shard."""
    version = apsw.sqlite_lib_version()
    if not is_safe_sqlite(version):
        raise ValueError(
            f"SQLite {version} has the WAL-reset bug that can corrupt a shard; install apsw with SQLite 3.51.3 or newer"
        )


class Bulk:
    """One statement for many rows, prepared in a few sizes. `{rows}` in the template stands for the rows."""

    # Halves: few statements for any number of rows, as each lets go of the interpreter's lock once.
    SIZES = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)

    def __init__(self, template: str, columns: int) -> None:
        row = "(" + ",".join("?" * columns) + ")" if columns > 1 else "?"
        self._columns = columns
        texts = [(size, template.format(rows=",".join([row] * size))) for size in self.SIZES]
        self._statements = [(size, text) for size, text in texts if len(text) <= MAX_CACHED_BYTES]

    def run(self, connection: apsw.Connection, values: Sequence[Any]) -> int:
        """Write these values, row after row; returns the rows changed."""
        before = connection.total_changes()
        self.query(connection, values)
        return connection.total_changes() - before

    def query(self, connection: apsw.Connection, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The same for a statement that answers rows."""
        found: list[tuple[Any, ...]] = []
        at, columns, end = 0, self._columns, len(values)
        for size, statement in self._statements:
            step = size * columns
            while end - at >= step:
                found.extend(connection.execute(statement, values[at : at + step]))
                at += step
        return found


class Database:
    """The one connection of a shard; used by one thread at a time."""

    def __init__(self, path: Path, *, cache_bytes: int) -> None:
        """Open the file. apsw.Error: it is missing, no database, or damaged in its first pages."""
        flags = apsw.SQLITE_OPEN_READWRITE
        self.path = path
        self.connection = apsw.Connection(str(path), flags=flags, statementcachesize=STATEMENT_CACHE)
        self.wal_pages = 0
        # What reads from this connection and must end before it.
        self.on_close: list[Callable[[], None]] = []
        try:
            self._set_up(self.connection, cache_bytes)
        except BaseException:
            # Its locks would be in the way of whoever looks at the file next.
            self.connection.close()
            raise

    def begin(self) -> None:
        """Start to write. DiskFull; apsw.Error."""
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable. DiskFull: rolled back; WriteOutcomeUnknown: nobody knows."""
        try:
            self.connection.execute("COMMIT")
        except apsw.FullError as e:
            self.rollback()
            raise DiskFull(str(e)) from e
        except apsw.Error as e:
            raise WriteOutcomeUnknown(str(e)) from e

    def rollback(self) -> None:
        """Undo what was not committed."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def checkpoint(self, *, truncate: bool = False) -> None:
        """Copy the WAL into the file; nobody else reads, so it always ends. truncate: and give its space back.

        apsw.FullError: the file had to grow and could not; the WAL is whole.
        """
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if truncate else apsw.SQLITE_CHECKPOINT_PASSIVE
        self.connection.wal_checkpoint(mode=mode)
        self.wal_pages = 0

    def wal_frames(self) -> int:
        """Frames of the WAL that SQLite takes as committed; nothing is copied."""
        # The WAL is read at the first look into the file.
        self.value("SELECT count(*) FROM sqlite_schema")
        return self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]

    def leave_wal(self) -> None:
        """Copy the WAL into the file and end WAL mode, durably."""
        self.checkpoint(truncate=True)
        self.connection.execute("PRAGMA journal_mode = DELETE")

    def close(self) -> None:
        """Close as it is; the WAL stays unless it was checkpointed."""
        while self.on_close:
            self.on_close.pop()()
        self.connection.close()

    def value(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        for row in self.connection.execute(sql, bindings):
            return row[0]
        return None

    def rows(self, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows; the statement bounds them."""
        return list(self.connection.execute(sql, bindings))

    def get_meta(self, key: str) -> Any:
        """A fact of the file about itself, or None."""
        return self.value("SELECT value FROM meta WHERE key = ?", (key,))

    def set_meta(self, key: str, value: str | int) -> None:
        """Store a fact of the file about itself."""
        self.connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def quick_check(self) -> str:
        """What is wrong with the file; "ok" when nothing is."""
        return str(self.value("PRAGMA quick_check(1)"))

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages = int(self.value("PRAGMA page_count") or 0) - int(self.value("PRAGMA freelist_count") or 0)
        return pages * PAGE_BYTES

    def file_bytes(self) -> int:
        """Size of file and WAL."""
        return _size_of(str(self.path)) + self.wal_bytes()

    def wal_bytes(self) -> int:
        """Size of the WAL, which keeps its space when it was copied."""
        return _size_of(f"{self.path}-wal")

    def _on_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def _set_up(self, c: apsw.Connection, cache_bytes: int) -> None:
        # Before the WAL is touched: then its index lives in this process's memory and nobody else can write.
        c.execute("PRAGMA locking_mode = EXCLUSIVE")
        c.execute("PRAGMA journal_mode = WAL")
        c.execute("PRAGMA synchronous = FULL")
        c.execute(f"PRAGMA cache_size = -{max(256, cache_bytes // 1024)}")
        c.execute("PRAGMA temp_store = MEMORY")
        c.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")
        # Checkpoints are run by hand, after the answers of a transaction went out; the hook replaces SQLite's own.
        c.execute("PRAGMA wal_autocheckpoint = 0")
        c.set_wal_hook(self._on_wal)
        # After a failed write nothing may be copied into the file on the way out; a clean end checkpoints by itself.
        c.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
