"""Makes a fresh, verified file of what is left of a shard, with everything that an event's life depends on.

Request ids, counters, handovers, dead letters, outcomes and the place of every event in its lane are kept. Lanes whose
row is lost are named by their events. Where one id was found in two states, which only damage can cause, the first in
the order of the tables is kept and the other counted.
"""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from evenflow.common.v1.event_pb2 import Event

from services.queue import install, lane_counts, migrations, outcomes, verification
from services.queue.domain import ZONE_SHIFT
from services.queue.identity import ShardRecord
from services.queue.salvage import EVENT_PLACES, MAX_LISTED, Salvage, lane_of
from services.shared import ids

# Rows of one transaction of the copy.
BATCH_ROWS = 1_000
STAMP_BYTES = 8


class RepairRefused(Exception):
    """It would lose something that the caller did not agree to lose; the message says what and how to agree."""


@dataclass(slots=True)
class Report:
    """What was kept and what was not."""

    shard_id: int
    kept: dict[str, int] = field(default_factory=dict)
    lost_ids: dict[str, list[str]] = field(default_factory=dict)
    lost_ids_total: dict[str, int] = field(default_factory=dict)
    refused_rows: dict[str, int] = field(default_factory=dict)
    doubles: dict[str, int] = field(default_factory=dict)
    lanes_named_by_events: int = 0
    damaged_pages: list[int] = field(default_factory=list)
    damaged_cells: int = 0
    is_schema_lost: bool = False
    is_wal_damaged: bool = False
    last_known: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def judge(meta: dict[str, Any], record: ShardRecord | None, shard_id: int) -> str | None:
    """Why the file is not the newest of its shard, or None. Pure."""
    if record is None:
        return "the manifest does not name the shard, so nothing tells whether this is its newest file"
    if not {"identity", "shard_id", "generation"} <= set(meta):
        # Damage has taken what it says of itself; its rows are checked one by one.
        return None
    if meta["identity"] != record.identity or meta["shard_id"] != shard_id:
        return f"it is a foreign file: identity {meta['identity']}, the manifest says {record.identity}"
    generation, stamp = int(meta["generation"]), int(meta.get("stamp") or 0)
    if generation < record.generation:
        return f"it is an old copy: generation {generation}, the manifest says {record.generation}"
    if record.closed and generation == record.generation and meta.get("closed") != record.closed:
        return "it is an old copy: not the file that was closed last"
    if stamp < record.stamp:
        return f"it is an old copy, or its WAL was lost: stamp {stamp}, the manifest says {record.stamp}"
    return None


def next_record(record: ShardRecord | None, meta: dict[str, Any]) -> ShardRecord:
    """What the manifest will say of the new file: newer than every other one."""
    generations = [int(meta.get("generation") or 0), record.generation if record else 0]
    stamps = [int(meta.get("stamp") or 0), record.stamp if record else 0]
    identity = record.identity if record else str(meta.get("identity") or os.urandom(16).hex())
    return ShardRecord(
        identity, max(generations) + 1, created=True, closed=os.urandom(STAMP_BYTES).hex(), stamp=max(stamps) + 1
    )


Result = tuple[Report, ShardRecord]


def build(directory: Path, shard_id: int, source: Path, record: ShardRecord | None, *, accept_old: bool) -> Result:
    """Make the fresh file of what `source` has. RepairRefused; OSError; ValueError: the result is not whole."""
    salvage = Salvage(source, shard_id)
    try:
        refusal = judge(salvage.meta, record, shard_id)
        if refusal is not None and not accept_old:
            raise RepairRefused(f"{source.name}: {refusal}; with --accept-old-copy it is taken all the same")
        after = next_record(record, salvage.meta)
        report = Report(shard_id, last_known=dict(record.known) if record else {})
        if refusal is not None:
            report.notes.append(refusal)
        fresh = _empty(directory, shard_id, after)
        connection = apsw.Connection(str(fresh))
        try:
            # Nobody needs this file before it is whole and synced.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            _Copy(connection, salvage, report).run()
        finally:
            connection.close()
    finally:
        salvage.close()
    losses = salvage.losses
    report.damaged_pages, report.damaged_cells = losses.damaged_pages[:MAX_LISTED], losses.damaged_cells
    report.is_schema_lost, report.is_wal_damaged = losses.is_schema_lost, losses.is_wal_damaged
    report.refused_rows = dict(losses.refused_rows)
    _require_whole(fresh, shard_id)
    after.known = {**report.last_known, "depth": report.kept["events"] + report.kept["delayed"]}
    after.known["dead_letters"] = report.kept["dead_letters"]
    return report, after


def build_empty(directory: Path, shard_id: int, record: ShardRecord | None) -> Result:
    """Make an empty file with an identity of its own: should the lost one turn up, it is a foreign file."""
    report = Report(shard_id, last_known=dict(record.known) if record else {})
    after = next_record(record, {})
    after.identity = os.urandom(16).hex()
    _empty(directory, shard_id, after)
    _require_whole(install.fresh_path(directory, shard_id), shard_id)
    return report, after


def take_copy(directory: Path, shard_id: int, copy: Path, record: ShardRecord | None) -> Result:
    """Make the fresh file a copy of a backup, which must be whole. RepairRefused; OSError; ValueError."""
    meta = verification.verify(copy, shard_id, full=False, now_ms=0)
    if meta.findings:
        raise RepairRefused(f"{copy} is no whole file of shard {shard_id}: {meta.findings[0]}")
    after = next_record(record, meta.meta)
    fresh = install.clear_fresh(directory, shard_id)
    with open(copy, "rb") as source, open(fresh, "wb", opener=_private) as target:
        while part := source.read(1 << 20):
            target.write(part)
    connection = apsw.Connection(str(fresh))
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = DELETE")
        _write_meta(connection, shard_id, after)
    finally:
        connection.close()
    _require_whole(fresh, shard_id)
    report = Report(shard_id, last_known=dict(record.known) if record else {}, kept=dict(meta.rows))
    after.known = {**report.last_known, "depth": meta.rows["events"] + meta.rows["delayed"]}
    after.known["dead_letters"] = meta.rows["dead_letters"]
    if record is not None and meta.meta.get("identity") != record.identity:
        report.notes.append(f"the backup is of identity {meta.meta.get('identity')}, the shard had {record.identity}")
    return report, after


class _Copy:
    """Rows of one salvage into one fresh file."""

    def __init__(self, connection: apsw.Connection, salvage: Salvage, report: Report) -> None:
        self._c = connection
        self._salvage = salvage
        self._report = report
        self._lanes: set[int] = set()
        # Tables that may have an id already. A finished event is finished; a page that was freed and cannot be told
        # from others any more has rows as they were before they moved on.
        self._filled: list[str] = []

    def run(self) -> None:
        """Copy everything, count what was kept and what could not be."""
        self._copy_lanes()
        self._copy_outcomes()
        for table in ("dead_letters", "delayed", "events"):
            self._copy(table)
        self._c.execute(
            f"INSERT INTO expiry_zones SELECT sequence >> {ZONE_SHIFT}, min(expires_at_ms) FROM events GROUP BY 1"
        )
        self._c.execute(lane_counts.FILL)
        if self._salvage.losses.is_damaged or self._salvage.losses.refused_rows:
            for table in EVENT_PLACES:
                self._find_lost(table)

    def _copy_lanes(self) -> None:
        kept = 0
        with self._c:
            for row in self._salvage.rows("lanes"):
                if self._insert("lanes", row):
                    self._lanes.add(row[0])
                    kept += 1
        self._report.kept["lanes"] = kept

    def _copy(self, table: str) -> None:
        kept = doubles = 0
        id_place, event_place = EVENT_PLACES[table]
        rows = self._salvage.rows(table)
        count = BATCH_ROWS
        while count == BATCH_ROWS:
            count = 0
            with self._c:
                for row in itertools.islice(rows, BATCH_ROWS):
                    count += 1
                    if self._is_known(row[id_place]) or not self._name_lane(lane_of(table, row), row[event_place]):
                        doubles += 1
                    elif self._insert(table, row):
                        kept += 1
                    else:
                        doubles += 1
                        self._prefer_further(table, row)
        if kept:
            self._filled.append(table)
        self._report.kept[table] = kept
        if doubles:
            self._report.doubles[table] = doubles

    def _copy_outcomes(self) -> None:
        buckets = self._salvage.buckets()
        newest = max(buckets, default=1)
        kept = 0
        with self._c:
            for found_in, row in self._salvage.outcomes():
                bucket_id = found_in or newest
                name = f"outcomes_{bucket_id}"
                if name not in self._filled:
                    self._filled.append(name)
                    self._c.execute(outcomes.CREATE.format(id=bucket_id))
                    opened_at_ms = buckets.get(bucket_id, outcomes.facts_from(row[3]).finished_at_ms)
                    self._c.execute("INSERT INTO outcome_buckets VALUES (?, ?)", (bucket_id, opened_at_ms))
                kept += self._insert(name, row)
        self._report.kept["outcomes"] = kept

    def _prefer_further(self, table: str, row: list[Any]) -> None:
        """Of two versions of a row keep the one that more has happened to: a stored handover must not be run again."""
        if table == "dead_letters":
            return
        id_place, event_place = EVENT_PLACES[table]
        stands = [
            list(found) for found in self._c.execute(f"SELECT * FROM {table} WHERE request_id = ?", (row[id_place],))
        ]
        if stands and _how_far(row, id_place, event_place) > _how_far(stands[0], id_place, event_place):
            self._c.execute(f"DELETE FROM {table} WHERE request_id = ?", (row[id_place],))
            if not self._insert(table, row):
                self._insert(table, stands[0])

    def _find_lost(self, table: str) -> None:
        """Ids that the index of a table still has and no table any more."""
        lost: list[str] = []
        total = 0
        for request_id, _ in self._salvage.indexed_ids(table):
            if not self._is_known(request_id):
                total += 1
                if len(lost) < MAX_LISTED:
                    lost.append(ids.to_text(request_id) if len(request_id) == 16 else request_id.hex())
        if total:
            self._report.lost_ids[table], self._report.lost_ids_total[table] = lost, total

    def _is_known(self, request_id: Any) -> bool:
        return any(
            any(self._c.execute(f"SELECT 1 FROM {table} WHERE request_id = ?", (request_id,))) for table in self._filled
        )

    def _name_lane(self, lane_id: int, stored: bytes) -> bool:
        """Whether the lane is there; made from the event where its row was lost."""
        if lane_id in self._lanes:
            return True
        event = Event.FromString(stored)
        if not self._insert("lanes", [lane_id, event.tenant_id, event.function_name]):
            return False
        self._lanes.add(lane_id)
        self._report.lanes_named_by_events += 1
        return True

    def _insert(self, table: str, row: list[Any]) -> bool:
        """False: its key or id is taken, or it breaks a rule of the table."""
        marks = ", ".join("?" * len(row))
        try:
            self._c.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        except (apsw.ConstraintError, apsw.MismatchError):
            return False
        return True


def _how_far(row: list[Any], id_place: int, event_place: int) -> tuple[bool, int]:
    counters = row[id_place + 4 : id_place + 8]
    return row[event_place - 1] is not None, sum(n for n in counters if isinstance(n, int))


def _empty(directory: Path, shard_id: int, record: ShardRecord) -> Path:
    fresh = install.clear_fresh(directory, shard_id)
    migrations.create(fresh)
    fresh.chmod(0o600)
    connection = apsw.Connection(str(fresh))
    try:
        _write_meta(connection, shard_id, record)
    finally:
        connection.close()
    return fresh


def _write_meta(connection: apsw.Connection, shard_id: int, record: ShardRecord) -> None:
    facts = {
        "identity": record.identity,
        "shard_id": shard_id,
        "generation": record.generation,
        "stamp": record.stamp,
        "closed": record.closed,
    }
    with connection:
        for key, value in facts.items():
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _require_whole(path: Path, shard_id: int) -> None:
    verdict = verification.verify(path, shard_id, full=True, now_ms=0)
    if verdict.findings:
        raise ValueError(f"the repaired file is not whole, nothing was changed: {verdict.findings[0]}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
