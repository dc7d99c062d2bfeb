"""A shard of the version before is brought to this one, or left as it was; Python's SQLite never meets a WAL."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest

from services.queue import migrations
from services.queue.database import Database
from services.queue.identity import Manifest, ShardDamaged, open_verified
from services.queue.outcomes import facts_from
from services.queue.paths import shard_path
from services.queue.verification import verify
from tests.kit.processes import ROOT
from tests.unit.queue.kit import Bench, ack

DUMP = Path(__file__).parent / "data" / "shard_v1.sql"
TABLES = ("events", "delayed", "dead_letters", "lanes", "expiry_zones", "outcome_buckets")


def lay_down(folder: Path, *, as_if_crashed: bool = False) -> dict[str, list[Any]]:
    """The shard of the version before, with its manifest; its rows."""
    text = DUMP.read_text()
    path = shard_path(folder, 0)
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute(text)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    (manifest,) = re.findall(r"^-- manifest\.json: (.*)$", text, re.MULTILINE)
    stored = json.loads(manifest)
    if as_if_crashed:
        # What came last stands in the WAL alone.
        connection.execute("UPDATE events SET deliveries = 3")
        connection.execute("UPDATE meta SET value = '' WHERE key = 'closed'")
        stored["shards"]["0"]["closed"] = ""
    (folder / "manifest.json").write_text(json.dumps(stored))
    rows = rows_of(connection)
    connection.close()
    return rows


def rows_of(connection: apsw.Connection) -> dict[str, list[Any]]:
    """Everything in the tables; outcomes as they were before their facts were one blob."""
    found = {table: list(connection.execute(f"SELECT * FROM {table} ORDER BY 1")) for table in TABLES}
    found["outcomes_1"] = [
        unpacked(row) if len(row) == 4 else row for row in connection.execute("SELECT * FROM outcomes_1 ORDER BY 1")
    ]
    return found


def unpacked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A kept outcome in the columns of the version before."""
    request_id, lane_id, body_hash, stored = row
    facts = facts_from(stored)
    times = (facts.accepted_at_ms, facts.finished_at_ms, facts.expires_at_ms)
    others = (facts.destination_arn, facts.qualifier, facts.traceparent, facts.tracestate)
    return (request_id, lane_id, facts.state, facts.condition, *times, *facts.progress, *others, body_hash)


def schema_of(connection: apsw.Connection) -> dict[str, str]:
    """Each table's and index's text."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))


@pytest.mark.parametrize("as_if_crashed", [False, True])
def test_a_shard_of_the_version_before_is_migrated_and_serves(run_dir: Path, as_if_crashed: bool) -> None:
    """Every row as it was, also those that a crash left in the WAL; and the shard goes on where it was."""
    before = lay_down(run_dir, as_if_crashed=as_if_crashed)
    database = open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    assert migrations.version_of(database) == migrations.CURRENT_VERSION == 4
    assert rows_of(database.connection) == before
    assert database.value("PRAGMA journal_mode") == "wal" and database.quick_check() == "ok"
    database.close()
    assert verify(shard_path(run_dir, 0), 0, full=True, now_ms=0).findings == []
    bench = Bench(run_dir)
    assert (bench.shard.depth, bench.shard.dead_count, bench.shard.handover_count) == (7, 2, 1)
    leases = bench.lease(10)
    assert sorted(lease.HasField("handover") for lease in leases) == [False] * 4 + [True]
    assert not bench.settle(*(ack(lease) for lease in leases)).refusals
    bench.close()


def test_a_migrated_schema_is_that_of_a_new_shard(run_dir: Path) -> None:
    """The same tables, all STRICT with their CHECKs, and the same indexes."""
    lay_down(run_dir)
    old = open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    (run_dir / "new").mkdir()
    new = open_verified(run_dir / "new", 0, Manifest(run_dir / "new"), 1 << 20)
    migrated = {name: sql for name, sql in schema_of(old.connection).items() if name != "outcomes_1"}
    assert migrated == schema_of(new.connection)
    tables = [sql for sql in migrated.values() if sql.startswith("CREATE TABLE")]
    assert len(tables) == 8 and all(sql.rpartition(")")[2].strip().startswith("STRICT") for sql in tables)
    with pytest.raises(apsw.ConstraintError, match="CHECK"):
        old.connection.execute("UPDATE events SET request_id = x'00'")
    with pytest.raises(apsw.ConstraintError, match="cannot store"):
        old.connection.execute("UPDATE events SET attempts = 'many'")
    old.close()
    new.close()


def test_a_newer_schema_is_refused_by_name(run_dir: Path) -> None:
    lay_down(run_dir)
    connection = apsw.Connection(str(shard_path(run_dir, 0)))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ShardDamaged, match="has schema 99, this program knows 4: start the version"):
        open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)


def test_a_file_that_is_not_ours_is_not_migrated(run_dir: Path) -> None:
    """An old copy stays what it is: the version that it was written by can still read it."""
    lay_down(run_dir)
    stored = json.loads((run_dir / "manifest.json").read_text())
    stored["shards"]["0"]["generation"] = 5
    (run_dir / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(ShardDamaged, match="old copy"):
        open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    database = Database(shard_path(run_dir, 0), cache_bytes=1 << 20)
    assert migrations.version_of(database) == 1
    database.close()


# The child migrates with the steps of this program, and stops for good at one place.
CHILD = """
import os, sys, time
from pathlib import Path
from services.queue import identity, migrations
place, folder = sys.argv[1], Path(sys.argv[2])
def stop():
    print("there", flush=True)
    time.sleep(60)
if place == "before":
    migrations.migrate_file = lambda path: stop()
elif place == "after":
    real = migrations.migrate_file
    migrations.migrate_file = lambda path: (real(path), stop())
else:
    def step(database):
        migrations._dead_letter_indexes(database)
        # So that half of it stands in the file itself and only the journal can undo it.
        database.conn.execute("PRAGMA cache_size = 1")
        database.conn.execute("UPDATE events SET error_message = hex(randomblob(20000)), deliveries = 77")
        database.conn.execute("UPDATE dead_letters SET error_message = hex(randomblob(20000))")
        stop()
    migrations.MIGRATIONS = (migrations._initial, step)
identity.open_verified(folder, 0, identity.Manifest(folder), 1 << 20)
"""


@pytest.mark.parametrize("place", ["before", "inside", "after"])
def test_kill_9_in_a_migration_leaves_one_version_or_the_other(run_dir: Path, place: str) -> None:
    """Killed before, inside and after the transaction: the next start has every row and the current schema."""
    before = lay_down(run_dir, as_if_crashed=True)
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, place, str(run_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "there\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    journal = Path(f"{shard_path(run_dir, 0)}-journal")
    assert (journal.exists() and journal.stat().st_size > 4_096) == (place == "inside")
    database = open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    assert migrations.version_of(database) == migrations.CURRENT_VERSION
    assert rows_of(database.connection) == before
    database.close()


def test_a_failing_step_changes_nothing(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the shard says why it is not served."""
    before = lay_down(run_dir)

    def failing(database: Any) -> None:
        database.conn.execute("DELETE FROM events")
        database.conn.execute("no such statement")

    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.MIGRATIONS[0], failing))
    with pytest.raises(ShardDamaged, match="could not be migrated"):
        open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    monkeypatch.undo()
    database = open_verified(run_dir, 0, Manifest(run_dir), 1 << 20)
    assert rows_of(database.connection) == before
    database.close()


def test_pythons_sqlite_has_the_file_alone_and_without_a_wal(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of its connects nobody has the file open, it is not in WAL mode, and no WAL is beside it."""
    lay_down(run_dir, as_if_crashed=True)
    seen: list[str] = []
    connect = sqlite3.connect

    def watched(path: Path, **options: Any) -> sqlite3.Connection:
        open_files = {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")}
        assert not [name for name in open_files if name.startswith(str(path.resolve()))]
        assert not Path(f"{path}-wal").exists()
        assert not path.exists() or path.read_bytes()[18:20] == b"\x01\x01"
        seen.append(path.name)
        made: sqlite3.Connection = connect(path, **options)
        return made

    monkeypatch.setattr(migrations.sqlite3, "connect", watched)  # type: ignore[attr-defined]
    manifest = Manifest(run_dir)
    for _ in range(2):
        for shard_id in (0, 1):
            open_verified(run_dir, shard_id, manifest, 1 << 20).close()
    assert seen == ["shard-0000.db", "shard-0001.db"], "one migration, one new file, and never again"
    with pytest.raises(ValueError, match="in WAL mode"):
        migrations.migrate_file(shard_path(run_dir, 0))


def test_only_migrations_speak_to_pythons_sqlite() -> None:
    """In the whole service: a second place would be a second way to meet a WAL."""
    found = {
        path.name
        for path in (ROOT / "services" / "queue").rglob("*.py")
        if re.search(r"^\s*(import|from) sqlite(3|_utils)", path.read_text(), re.MULTILINE)
    }
    assert found == {"migrations.py"}


# Another SQLite than the one at hand cannot be had here: its version is all that changes.
UNSAFE = """
import apsw, runpy, sys
apsw.sqlite_lib_version = lambda: "3.51.2"
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["services.queue", "services.queue.offline"])
def test_a_process_with_the_wal_reset_bug_ends_with_the_reason(run_dir: Path, module: str) -> None:
    """Before it opens any file."""
    (run_dir / "token").write_text("t" * 64)
    (run_dir / "token").chmod(0o600)
    environment = {
        **os.environ,
        "EVENFLOW_NODE_ID": "queue-0",
        "EVENFLOW_DATA_DIR": str(run_dir),
        "EVENFLOW_RUN_DIR": str(run_dir),
        "EVENFLOW_TOKEN_FILE": str(run_dir / "token"),
    }
    more = ["check", "--directory", str(run_dir), "--shard", "0"] if module.endswith("offline") else []
    done = subprocess.run(
        [sys.executable, "-c", UNSAFE, module, *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == (1 if more else 3), said
    assert "SQLite 3.51.2 has the WAL-reset bug" in said and "install apsw with SQLite 3.51.3 or newer" in said
    assert "Traceback" not in said and not list(run_dir.rglob("*.db"))
