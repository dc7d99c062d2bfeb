"""Checks of a shard's file that nobody serves: SQLite's own, and what must hold between the shard's tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
from evenflow.common.v1.event_pb2 import Event
from google.protobuf.message import DecodeError

from services.queue import lane_counts, migrations
from services.queue.domain import LANE_SHIFT, ZONE_SHIFT
from services.shared import ids

MAX_FINDINGS = 100
# A zone of leased events is looked at again when their leases could have ended: at most the longest lease later.
MAX_ZONE_DELAY_MS = 43_200_000
_TABLES = ("events", "delayed", "dead_letters")


@dataclass(slots=True)
class Verdict:
    """What a check found; no findings: nothing is wrong."""

    findings: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    pages: int = 0
    meta: dict[str, Any] = field(default_factory=dict)


def open_read_only(path: Path) -> apsw.Connection:
    """A connection that changes nothing, not even a WAL's index. apsw.Error."""
    flags = apsw.SQLITE_OPEN_READWRITE
    if not _has_wal(path):
        # Nothing to recover: the file alone, as if it could not change.
        return apsw.Connection(
            f"{path.absolute().as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        )
    connection = apsw.Connection(str(path), flags=flags)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.execute("PRAGMA query_only = ON")
    return connection


def verify(path: Path, shard_id: int, *, full: bool, now_ms: int) -> Verdict:
    """Check the whole file. The caller makes sure that nobody serves it."""
    verdict = Verdict()
    connection: apsw.Connection | None = None
    try:
        connection = open_read_only(path)
        for finding in _findings(connection, verdict, shard_id, full, now_ms):
            verdict.findings.append(finding)
            if len(verdict.findings) >= MAX_FINDINGS:
                break
    except apsw.Error as e:
        verdict.findings.append(f"it cannot be read: {e}")
    finally:
        if connection is not None:
            connection.close()
    return verdict


def _findings(c: apsw.Connection, verdict: Verdict, shard_id: int, full: bool, now_ms: int) -> Iterator[str]:
    pragma = "integrity_check" if full else "quick_check"
    verdict.pages = _value(c, "PRAGMA page_count")
    damaged = [str(row[0]) for row in c.execute(f"PRAGMA {pragma}({MAX_FINDINGS})") if row[0] != "ok"]
    yield from damaged
    if damaged:
        # Counting over broken trees tells nothing.
        return
    version = _value(c, "PRAGMA user_version")
    if not 1 <= version <= migrations.CURRENT_VERSION:
        yield f"schema {version} is not one of this program's"
        return
    verdict.meta = dict(c.execute("SELECT key, value FROM meta"))
    if verdict.meta.get("shard_id") != shard_id:
        yield f"it says that it is shard {verdict.meta.get('shard_id')}, not {shard_id}"
    yield from _table_findings(c, verdict, shard_id)
    yield from _count_findings(c)
    yield from _zone_findings(c, now_ms)
    buckets = [int(row[0]) for row in c.execute("SELECT bucket_id FROM outcome_buckets")]
    yield from _outcome_findings(c, verdict, buckets)
    yield from _double_findings(c, buckets)
    if full:
        yield from _event_findings(c)


def _table_findings(c: apsw.Connection, verdict: Verdict, shard_id: int) -> Iterator[str]:
    sixth, seventh, eighth = (shard_id >> 12) & 0xF, (shard_id >> 4) & 0xFF, 0x80 | (shard_id & 0xF) << 2
    versions = ", ".join(f"x'{version << 4 | sixth:02x}'" for version in (7, 8))
    eighths = ", ".join(f"x'{eighth | low:02x}'" for low in range(4))
    for table in _TABLES:
        verdict.rows[table] = _value(c, f"SELECT count(*) FROM {table}")
        lane = f"sequence >> {LANE_SHIFT}" if table == "events" else "lane_id"
        count = _value(
            c, f"SELECT count(*) FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.lane_id = t.{lane})"
        )
        if count:
            yield f"{count} rows of {table} are of a lane that does not exist"
        count = _value(
            c,
            f"SELECT count(*) FROM {table} WHERE substr(request_id, 8, 1) <> x'{seventh:02x}' "
            f"OR substr(request_id, 7, 1) NOT IN ({versions}) OR substr(request_id, 9, 1) NOT IN ({eighths})",
        )
        if count:
            yield f"{count} rows of {table} have ids of other shards"


def _count_findings(c: apsw.Connection) -> Iterator[str]:
    stored = "(SELECT lane_id, events, delayed FROM lane_counts WHERE events > 0 OR delayed > 0)"
    for one, other in ((stored, f"({lane_counts.COUNTED})"), (f"({lane_counts.COUNTED})", stored)):
        count = _value(c, f"SELECT count(*) FROM (SELECT * FROM {one} EXCEPT SELECT * FROM {other})")
        if count:
            yield f"{count} lanes have another number of rows than is stored of them"
            return


def _zone_findings(c: apsw.Connection, now_ms: int) -> Iterator[str]:
    zones = f"(SELECT sequence >> {ZONE_SHIFT} AS zone, min(expires_at_ms) AS first FROM events GROUP BY 1)"
    count = _value(c, f"SELECT count(*) FROM {zones} LEFT JOIN expiry_zones z USING (zone) WHERE z.zone IS NULL")
    if count:
        yield f"{count} stretches of events have no expiry zone: their ages would not end"
    count = _value(
        c,
        f"SELECT count(*) FROM {zones} JOIN expiry_zones z USING (zone) WHERE z.expires_at_ms > max(first, ?)",
        (now_ms + MAX_ZONE_DELAY_MS,),
    )
    if count:
        yield f"{count} expiry zones are later than the events in them"


def _outcome_findings(c: apsw.Connection, verdict: Verdict, buckets: list[int]) -> Iterator[str]:
    tables = {row[0] for row in c.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'outcomes_[0-9]*'")}
    verdict.rows["outcomes"] = 0
    for bucket_id in buckets:
        if f"outcomes_{bucket_id}" not in tables:
            yield f"the table outcomes_{bucket_id} is missing"
        else:
            verdict.rows["outcomes"] += _value(c, f"SELECT count(*) FROM outcomes_{bucket_id}")
    for name in sorted(tables - {f"outcomes_{bucket_id}" for bucket_id in buckets}):
        yield f"the table {name} is of no bucket: it would never be dropped"


def _double_findings(c: apsw.Connection, buckets: list[int]) -> Iterator[str]:
    """A request id has one state."""
    names = [*_TABLES, *(f"outcomes_{bucket_id}" for bucket_id in buckets)]
    tables = {row[0] for row in c.execute("SELECT name FROM sqlite_schema")}
    for at, name in enumerate(names):
        for other in names[at + 1 :] if name in _TABLES else ():
            if other not in tables:
                continue
            count = _value(
                c,
                f"SELECT count(*) FROM {other} o WHERE EXISTS "
                f"(SELECT 1 FROM {name} t WHERE t.request_id = o.request_id)",
            )
            if count:
                yield f"{count} request ids are both in {name} and in {other}"


def _event_findings(c: apsw.Connection) -> Iterator[str]:
    for table in _TABLES:
        for request_id, stored in c.execute(f"SELECT request_id, event FROM {table}"):
            try:
                is_whole = Event.FromString(stored).request_id == request_id
            except DecodeError:
                is_whole = False
            if not is_whole:
                yield f"the event {ids.to_text(request_id)} in {table} does not decode to that id"


def _has_wal(path: Path) -> bool:
    log = Path(f"{path}-wal")
    journal = Path(f"{path}-journal")
    return any(extra.exists() and extra.stat().st_size for extra in (log, journal))


def _value(c: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> int:
    for row in c.execute(sql, bindings):
        return int(row[0])
    return 0
