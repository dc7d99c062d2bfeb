"""What of a bucket was announced: one SQLite file a source, shared by the pollers that own the source in turn.

A row is written only after the door said that the event is durable. A crash in between announces the object again under
the same token, which is one event.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from services.policy.s3_events import ObjectVersion

ANNOUNCED = "announced"
REFUSED = "refused"
# Another poller may hold the file for a moment while a source changes hands.
BUSY_TIMEOUT_MS = 5_000
SUFFIX = ".db"
_FILES_OF_ONE = (SUFFIX, SUFFIX + "-wal", SUFFIX + "-shm")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  key TEXT PRIMARY KEY,
  identity TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('announced', 'refused'))
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_MARK = "INSERT OR REPLACE INTO objects (key, identity, state) VALUES (?, ?, ?)"
log = logging.getLogger(__name__)


class JournalClosed(Exception):
    """The source ended while a thread still looked."""


class Journal:
    """One source's journal; every method blocks and may be called from any thread. apsw.Error: the disk fails."""

    def __init__(self, path: Path, source_id: str, revision: int) -> None:
        """Open or make it. `revision`: of a view of the fleet in which the source is there."""
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection: apsw.Connection | None = _open(path)
        except (apsw.NotADBError, apsw.CorruptError) as e:
            log.warning(
                "the journal of source %s is damaged (%s): begun anew, objects are announced again", source_id, e
            )
            _set_aside(path)
            self._connection = _open(path)
        seen = _fact(self._connection, "revision")
        with _transaction(self._connection):
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('source_id', ?)", (source_id,))
            newest = max(revision, int(str(seen or 0)))
            self._connection.execute("INSERT OR REPLACE INTO facts VALUES ('revision', ?)", (newest,))
        # Objects in the journal.
        self.rows = int(str(next(iter(self._connection.execute("SELECT count(*) FROM objects")))[0]))

    def unknown(self, versions: Sequence[ObjectVersion]) -> list[ObjectVersion]:
        """Those that were neither announced nor refused."""
        if not versions:
            return []
        marks = ", ".join("?" * len(versions))
        found = self._rows(f"SELECT key, identity FROM objects WHERE key IN ({marks})", [v.key for v in versions])
        known = {str(key): identity for key, identity in found}
        return [v for v in versions if known.get(v.key) != v.identity]

    def mark(self, ended: Sequence[tuple[ObjectVersion, str]]) -> None:
        """Note objects as ANNOUNCED or REFUSED, in one transaction; durable when this returns."""
        with self._lock:
            connection = self._open_connection()
            keys = {v.key for v, _ in ended}
            marks = ", ".join("?" * len(keys))
            with _transaction(connection):
                replaced = connection.execute(f"SELECT count(*) FROM objects WHERE key IN ({marks})", tuple(keys))
                fresh = len(keys) - int(str(next(iter(replaced))[0]))
                connection.executemany(_MARK, [(v.key, v.identity, state) for v, state in ended])
            self.rows += fresh

    def after(self, key: str, count: int) -> list[tuple[str, str]]:
        """The next rows in order as (key, identity); start with the empty text."""
        sql = "SELECT key, identity FROM objects WHERE key > ? ORDER BY key LIMIT ?"
        return [(str(found), str(identity)) for found, identity in self._rows(sql, [key, count])]

    def forget(self, rows: Sequence[tuple[str, str]]) -> None:
        """Take out (key, identity): the files are gone. A row that was marked anew meanwhile stays."""
        with self._lock:
            connection = self._open_connection()
            with _transaction(connection):
                before = connection.total_changes()
                connection.executemany("DELETE FROM objects WHERE key = ? AND identity = ?", rows)
                gone = connection.total_changes() - before
            self.rows -= gone

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _rows(self, sql: str, bindings: Sequence[str | int]) -> list[tuple[Any, ...]]:
        with self._lock:
            return list(self._open_connection().execute(sql, bindings))

    def _open_connection(self) -> apsw.Connection:
        if self._connection is None:
            raise JournalClosed
        return self._connection


def journal_path(folder: Path, source_id: str) -> Path:
    """Where a source's journal lies."""
    plain = _PLAIN_ID.fullmatch(source_id) is not None
    return folder / ((source_id if plain else hashlib.sha256(source_id.encode()).hexdigest()) + SUFFIX)


def drop_journals(folder: Path, kept: set[str], revision: int) -> list[str]:
    """Remove the journals of sources that are gone for sure; returns their file names.

    `kept`: sources of the view, and those at work here. `revision`: the view's; a view older than the journal (a
    snapshot read at start) says nothing about its source.
    """
    names = {journal_path(folder, source_id).name for source_id in kept}
    dropped = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.name not in names and _revision_of(path) < revision:
            for suffix in _FILES_OF_ONE:
                path.with_suffix(suffix).unlink(missing_ok=True)
            _damaged(path).unlink(missing_ok=True)
            dropped.append(path.name)
    return dropped


def _open(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        problem = next(iter(connection.execute("PRAGMA quick_check(1)")))[0]
        if problem != "ok":
            raise apsw.CorruptError(str(problem))
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    # IMMEDIATE: a transaction that begins by reading could not wait for another poller's write.
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (a full disk) roll back by themselves.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _set_aside(path: Path) -> None:
    path.replace(_damaged(path))
    for suffix in _FILES_OF_ONE[1:]:
        path.with_suffix(suffix).unlink(missing_ok=True)


def _damaged(path: Path) -> Path:
    return path.with_suffix(".damaged")


def _fact(connection: apsw.Connection, name: str) -> Any:
    for (value,) in connection.execute("SELECT value FROM facts WHERE name = ?", (name,)):
        return value
    return None


def _revision_of(path: Path) -> int:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            return int(str(_fact(connection, "revision") or 0))
        finally:
            connection.close()
    except apsw.Error:
        # Damaged, and of no source that is known: nothing that could be asked of it.
        return 0
