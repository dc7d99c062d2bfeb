"""The persistence layer: one SQLite file in a writable bucket, shared by every sandbox that sees the bucket.

Each operation is a connection and a transaction of its own: nothing of SQLite survives from one run to the next, so
that sandboxes may be forked (SnapStart) and killed at any time. The journal is a rollback journal: a write-ahead log
would need memory that all of them share, which not every file system of a bucket has. Every commit is synced.
"""

import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import STATUS_CONSTANTS, DataRecord

# A name that begins with a dot is no object: no event source ever sees the file or its journal.
DEFAULT_FILE_NAME = ".idempotency.sqlite3"
DEFAULT_BUSY_SECONDS = 10.0
# Rows beyond their time that one put takes away: the file stays small without anybody who tidies up.
MAX_SWEPT_ROWS = 20
# Keys of runs under way in this process; a run that was cut short leaves its key here.
MAX_OWNED_KEYS = 1_000
_IN_PROGRESS = STATUS_CONSTANTS["INPROGRESS"]
_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    key TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    -- Unix time, seconds.
    expires_at_s INTEGER NOT NULL,
    -- Unix time, milliseconds; NULL: as long as the record.
    in_progress_until_ms INTEGER,
    response TEXT NOT NULL,
    payload_hash TEXT NOT NULL,
    -- The attempt that the record is of.
    owner TEXT NOT NULL
) WITHOUT ROWID
"""
_INDEX = "CREATE INDEX IF NOT EXISTS records_by_expiry ON records (expires_at_s)"
_COLUMNS = "status, expires_at_s, in_progress_until_ms, response, payload_hash"
_SWEEP = "DELETE FROM records WHERE key IN (SELECT key FROM records WHERE expires_at_s < ? LIMIT ?)"
_PUT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, '', ?, ?)"
# An attempt that was overtaken (its time was over, another one began) leaves the other's record alone.
_COMPLETE = """
INSERT INTO records VALUES (:key, :status, :expires_at_s, NULL, :response, :payload_hash, :owner)
ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, expires_at_s = excluded.expires_at_s, in_progress_until_ms = NULL,
    response = excluded.response, payload_hash = excluded.payload_hash
WHERE records.owner = :owner OR :owner = ''
"""
_DELETE = "DELETE FROM records WHERE key = :key AND (owner = :owner OR :owner = '')"
log = logging.getLogger(__name__)


class SqlitePersistenceLayer(BasePersistenceLayer):
    """Give it to `@idempotent(persistence_store=...)`, as DynamoDBPersistenceLayer."""

    def __init__(
        self,
        bucket: str | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        file_name: str = DEFAULT_FILE_NAME,
        busy_seconds: float = DEFAULT_BUSY_SECONDS,
    ) -> None:
        """Name a writable bucket of the function, or (elsewhere) a folder.

        `busy_seconds`: how long an operation waits for the others' commits before it fails, and with it the run: an
        event is rather tried again than run unprotected. ValueError: both or neither is given.
        """
        super().__init__()  # type: ignore[no-untyped-call]  # its own hints leave this one out
        if (bucket is None) == (folder is None):
            raise ValueError("give the name of a bucket, or a folder")
        self._bucket = bucket
        self._folder = Path(folder) if folder is not None else None
        self._file_name = file_name
        self._busy_seconds = busy_seconds
        self._owned: dict[str, str] = {}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._transaction("DEFERRED") as connection:
            row = _read(connection, idempotency_key)
        if row is None:
            raise IdempotencyItemNotFoundError
        return _record(idempotency_key, row)

    def _put_record(self, data_record: DataRecord) -> None:
        key, owner, now = data_record.idempotency_key, uuid.uuid4().hex, time.time()
        with self._transaction("IMMEDIATE") as connection:
            row = _read(connection, key)
            if row is not None and not _is_free(row, now):
                stored = _record(key, row)
                self._validate_payload(data_payload=data_record, stored_data_record=stored)
                self._save_to_cache(data_record=stored)
                raise IdempotencyItemAlreadyExistsError(old_data_record=stored)
            connection.execute(_SWEEP, (int(now), MAX_SWEPT_ROWS))
            values = (
                key,
                data_record.status,
                data_record.expiry_timestamp,
                data_record.in_progress_expiry_timestamp,
                data_record.payload_hash,
                owner,
            )
            connection.execute(_PUT, values)
        if len(self._owned) >= MAX_OWNED_KEYS:
            del self._owned[next(iter(self._owned))]
        self._owned[key] = owner

    def _update_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        fields = {
            "key": key,
            "status": data_record.status,
            "expires_at_s": data_record.expiry_timestamp,
            "response": data_record.response_data,
            "payload_hash": data_record.payload_hash,
            "owner": self._owned.pop(key, ""),
        }
        with self._transaction("IMMEDIATE") as connection:
            if not connection.execute(_COMPLETE, fields).rowcount:
                log.warning("a later attempt took %s over: its record stays, this result is not stored", key)

    def _delete_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._transaction("IMMEDIATE") as connection:
            connection.execute(_DELETE, {"key": key, "owner": self._owned.pop(key, "")})

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """Commits at the end, rolls back at an exception. sqlite3.Error: the file cannot be used, or not in time."""
        path = self._path()
        if not path.exists():
            # Sandboxes may have users of their own: what one creates, all must be able to write. SQLite gives its
            # journal the mode of the file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        connection = sqlite3.connect(path, timeout=self._busy_seconds, isolation_level=None)
        try:
            # TRUNCATE saves the two syncs of the folder that a journal's birth and death would cost.
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] < _SCHEMA_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                connection.execute("COMMIT")
            connection.execute(f"BEGIN {kind}")
            yield connection
            connection.execute("COMMIT")
        finally:
            # What is not committed is undone.
            connection.close()

    def _path(self) -> Path:
        folder = self._folder
        if folder is None:
            variable = "EVENFLOW_BUCKET_" + str(self._bucket).upper().replace("-", "_").replace(".", "_")
            folder = Path(os.environ.get(variable) or f"/mnt/{self._bucket}")
            if not os.access(folder, os.W_OK):
                raise OSError(
                    f"bucket {self._bucket!r} is not there or cannot be written: evenflow.toml must grant it with "
                    f'buckets = [{{ name = "{self._bucket}", access = "write" }}]'
                )
        return folder / self._file_name


def _read(connection: sqlite3.Connection, key: str) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(f"SELECT {_COLUMNS} FROM records WHERE key = ?", (key,)).fetchone()
    return row


def _record(key: str, row: tuple[Any, ...]) -> DataRecord:
    status, expires_at_s, in_progress_until_ms, response, payload_hash = row
    return DataRecord(key, status, expires_at_s, in_progress_until_ms, response, payload_hash)


def _is_free(row: tuple[Any, ...], now: float) -> bool:
    """Whether another attempt may begin: the record's time is over, or that of an attempt which never ended."""
    status, expires_at_s, in_progress_until_ms, _, _ = row
    if expires_at_s < int(now):
        return True
    return bool(status == _IN_PROGRESS and in_progress_until_ms is not None and in_progress_until_ms < int(now * 1_000))
