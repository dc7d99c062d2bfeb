"""control.db: everything control must know again after a crash, in one SQLite file with one connection.

The file is used by one process (an exclusive lock beside it) and through one connection in exclusive locking mode: what
is durable is decided here alone, and SQLite's WAL-reset bug, which needs two connections, cannot occur whatever SQLite
Python links.
"""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evenflow.control.v1 import resources_pb2
from sqlite_utils import Database as Tables

from services.control.folders import make_folder, sync_folder

SCHEMA_VERSION = 1
Statement = tuple[str, Sequence[Any]]


class CommitFailed(Exception):
    """Nothing of the change was stored; `is_disk_full` says why."""

    def __init__(self, text: str, is_disk_full: bool) -> None:
        super().__init__(text)
        self.is_disk_full = is_disk_full


class OutcomeUnknown(Exception):
    """The commit may or may not be on disk: only a new start from the file can tell."""


@dataclass(frozen=True, slots=True)
class StoredShare:
    """A row of the ledger."""

    limit_key: str
    node_id: str
    incarnation: str
    target: int
    bound: int


@dataclass(frozen=True, slots=True)
class StoredOwner:
    """Who owned an event source last; the epoch grows with each change."""

    source_id: str
    epoch: int
    node_id: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class Stored:
    """All of the file."""

    revision: int
    resources: list[resources_pb2.Resource]
    shares: list[StoredShare]
    owners: list[StoredOwner]
    dead: list[tuple[str, str]]
    # By source id: until when its fires are done, Unix milliseconds.
    progress: dict[str, int]


def lock_folder(folder: Path) -> int:
    """An exclusive lock of control's folder, held while the descriptor is open. ValueError: another process has it."""
    make_folder(folder)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise ValueError(
            f"{folder} is in use by another fleet's control (process {holder or 'unknown'}): "
            "stop that fleet or choose another data folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


class Database:
    """The one connection; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. ValueError: it is no control.db of this version, or damaged."""
        is_new = not path.exists()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._tables = Tables(self._connection, recursive_triggers=False, execute_plugins=False)
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate(path)
            # Younger than the first files of this schema, and of no concern to who does not know it.
            self._tables.create_table(
                "source_progress",
                {"source_id": str, "done_until_ms": int},
                pk="source_id",
                not_null={"done_until_ms"},
                strict=True,
                if_not_exists=True,
            )
        except sqlite3.Error as e:
            raise ValueError(f"{path} cannot be used ({e}): restore it from a backup") from e
        if is_new:
            os.chmod(path, 0o600)
        # Also when it is there: whoever made it may have been killed before this.
        sync_folder(path.parent)

    def _migrate(self, path: Path) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise ValueError(f"{path} has schema {version}, newer than this Evenflow's {SCHEMA_VERSION}: upgrade")
        if version == SCHEMA_VERSION:
            return
        with self._tables.atomic():
            tables = self._tables
            tables.create_table("meta", {"key": str, "value": int}, pk="key", strict=True)
            tables.create_table(
                "resources",
                {"key": str, "revision": int, "value": bytes},
                pk="key",
                not_null={"revision", "value"},
                strict=True,
            )
            tables.create_table(
                "shares",
                {"limit_key": str, "node_id": str, "incarnation": str, "target": int, "bound": int},
                pk=("limit_key", "node_id"),
                not_null={"incarnation", "target", "bound"},
                strict=True,
            )
            tables.create_table(
                "source_owners",
                {"source_id": str, "epoch": int, "node_id": str, "incarnation": str},
                pk="source_id",
                not_null={"epoch", "node_id", "incarnation"},
                strict=True,
            )
            tables.create_table(
                "dead_incarnations", {"number": int, "node_id": str, "incarnation": str}, pk="number", strict=True
            )
            tables.table("dead_incarnations").create_index(["node_id"])
            self._connection.execute("INSERT INTO meta (key, value) VALUES ('revision', 0)")
            self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def load(self) -> Stored:
        """Everything. ValueError: it does not read."""
        query = self._connection.execute
        try:
            revision = int(query("SELECT value FROM meta WHERE key = 'revision'").fetchone()[0])
            resources = [
                resources_pb2.Resource.FromString(value)
                for (value,) in query("SELECT value FROM resources ORDER BY key")
            ]
            shares = query("SELECT limit_key, node_id, incarnation, target, bound FROM shares ORDER BY 1, 2")
            owners = query("SELECT source_id, epoch, node_id, incarnation FROM source_owners ORDER BY 1")
            dead = query("SELECT node_id, incarnation FROM dead_incarnations ORDER BY number")
            progress = query("SELECT source_id, done_until_ms FROM source_progress")
            return Stored(
                revision,
                resources,
                [StoredShare(*row) for row in shares],
                [StoredOwner(*row) for row in owners],
                list(dead),
                dict(progress.fetchall()),
            )
        except (sqlite3.Error, ValueError, TypeError) as e:
            raise ValueError(f"control.db does not read ({e}): restore it from a backup") from e

    def commit(
        self,
        revision: int,
        upserts: Sequence[tuple[str, bytes]],
        deleted_keys: Sequence[str],
        statements: Sequence[Statement],
    ) -> None:
        """Store one change, durable on return. CommitFailed: nothing was stored; OutcomeUnknown."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for key, value in upserts:
                connection.execute(
                    "INSERT INTO resources (key, revision, value) VALUES (?, ?, ?) "
                    "ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
                    (key, revision, value),
                )
            connection.executemany("DELETE FROM resources WHERE key = ?", [(key,) for key in deleted_keys])
            for sql, bindings in statements:
                connection.execute(sql, bindings)
            connection.execute("UPDATE meta SET value = ? WHERE key = 'revision'", (revision,))
        except sqlite3.Error as e:
            self._rollback()
            raise CommitFailed(str(e), _is_full(e)) from e
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            if not _is_full(e):
                raise OutcomeUnknown(str(e)) from e
            self._rollback()
            raise CommitFailed(str(e), True) from e

    def close(self) -> None:
        """Close; the WAL goes into the file."""
        self._connection.close()

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
