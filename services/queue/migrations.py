"""The schema of a shard's file, step by step from nothing.

sqlite-utils runs on Python's own SQLite, which may have the WAL-reset bug. So it gets the file only while nobody else
has it and without a WAL: apsw first recovers what a crash left, copies the WAL into the file, leaves WAL mode and
closes. Then every step that is missing runs in one transaction with a rollback journal; a crash in it leaves the older
version.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from services.queue import lane_counts, outcomes
from services.queue.database import PAGE_BYTES, SQL_DIRECTORY, Database
from services.queue.domain import PROGRESS_COLUMNS, Progress

if TYPE_CHECKING:
    import sqlite_utils

# STRICT tables came with it.
LEAST_SQLITE = (3, 37, 0)
WAIT_SECONDS = 0.0
# Of an outcome before its facts were one blob.
_OUTCOME_COLUMNS = (
    "request_id, lane_id, body_hash, state, condition, accepted_at_ms, finished_at_ms, expires_at_ms, "
    f"{PROGRESS_COLUMNS}, destination_arn, qualifier, traceparent, tracestate"
)


class SchemaTooNew(ValueError):
    """The file was written by a newer program."""


def _initial(database: "sqlite_utils.Database") -> None:
    run_script(database.conn, (SQL_DIRECTORY / "0001_initial.sql").read_text())


def _dead_letter_indexes(database: "sqlite_utils.Database") -> None:
    letters = database.table("dead_letters")
    letters.create_index(["lane_id", "dead_id"], "dead_letters_by_lane")
    # The lane stands in it so that both filters together are answered from the index.
    letters.create_index(["tenant_id", "error_type", "dead_id", "lane_id"], "dead_letters_by_error")


def _lane_counts(database: "sqlite_utils.Database") -> None:
    database.execute(lane_counts.CREATE)
    database.execute(lane_counts.FILL)


def _outcome_facts(database: "sqlite_utils.Database") -> None:
    for (bucket_id,) in database.execute("SELECT bucket_id FROM outcome_buckets").fetchall():
        name, old = f"outcomes_{bucket_id}", "outcomes_old"
        database.rename_table(name, old)
        database.execute(outcomes.CREATE.format(id=bucket_id))
        for row in database.execute(f"SELECT {_OUTCOME_COLUMNS} FROM {old}"):
            facts = outcomes.pack(row[3], row[4], row[5], row[6], row[7], Progress(*row[8:18]), *row[18:])
            database.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?)", (*row[:3], facts))
        database.execute(f"DROP TABLE {old}")


MIGRATIONS: tuple[Callable[["sqlite_utils.Database"], None], ...] = (
    _initial,
    _dead_letter_indexes,
    _lane_counts,
    _outcome_facts,
)
CURRENT_VERSION = len(MIGRATIONS)


def version_of(database: Database) -> int:
    """The file's schema. SchemaTooNew: this program does not know it."""
    version = int(database.value("PRAGMA user_version") or 0)
    if version > CURRENT_VERSION:
        raise SchemaTooNew(
            f"{database.path.name} has schema {version}, this program knows {CURRENT_VERSION}: "
            "start the version of Evenflow that wrote it, or a newer one"
        )
    return version


def create(path: Path) -> None:
    """A new, empty file with the current schema; durable but for its name in the folder."""
    migrate_file(path)


def upgrade(database: Database) -> None:
    """Close the connection and bring its file to the current schema; the caller opens it anew."""
    database.leave_wal()
    database.close()
    migrate_file(database.path)


def migrate_file(path: Path) -> None:
    """Run the steps that are missing, in one transaction. ValueError: it cannot be done, and nothing was."""
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        raise ValueError(f"Python's SQLite {sqlite3.sqlite_version} is too old for migrations: 3.37 is needed")
    require_no_wal(path)
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
    try:
        _migrate(connection)
    except sqlite3.Error as e:
        raise ValueError(f"{path.name} could not be migrated: {e}") from e
    finally:
        connection.close()


def _migrate(connection: sqlite3.Connection) -> None:
    # Not at the top: a node whose files are current never needs it.
    import sqlite_utils

    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("BEGIN EXCLUSIVE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    database = sqlite_utils.Database(connection, execute_plugins=False)
    for step in MIGRATIONS[version:]:
        step(database)
    if not connection.in_transaction:
        raise ValueError("a migration ended the transaction that it must be a part of")
    connection.execute(f"PRAGMA user_version = {CURRENT_VERSION}")
    connection.execute("COMMIT")


def require_no_wal(path: Path) -> None:
    """ValueError: the file is in WAL mode, where Python's SQLite may meet apsw's and the WAL-reset bug."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        head = file.read(20)
    if head and head[18:20] != b"\x01\x01":
        raise ValueError(f"{path.name} is in WAL mode: Python's SQLite must not touch it")


def run_script(connection: sqlite3.Connection, script: str) -> None:
    """Run statement after statement; `executescript` would commit the running transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
