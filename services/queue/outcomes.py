"""Terminal outcomes: kept for a time and up to a number of rows, in tables that are dropped whole."""

import struct
from dataclasses import dataclass
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.database import Bulk, Database
from services.queue.domain import FRESH, Entry, Progress

# A stretch is a 24th of the time kept and at most an 8th of the rows: so much more than asked for may be dropped.
STRETCHES_BY_TIME = 24
STRETCHES_BY_ROWS = 8
# Frontends' clocks may be so far apart from the node's.
CLOCK_SKEW_MS = 60_000
COLUMNS = "request_id, lane_id, body_hash, facts"
_COLUMN_COUNT = len(COLUMNS.split(","))
# One blob for what is only shown: a column each would cost three times as much at every settle (ADR 12).
CREATE = """CREATE TABLE outcomes_{id} (
  request_id BLOB PRIMARY KEY, lane_id INTEGER NOT NULL, body_hash BLOB NOT NULL, facts BLOB NOT NULL
) STRICT, WITHOUT ROWID"""
# state, condition, accepted, finished and expires (ms), function_errors, throttles, deliveries, attempts,
# first_started_at_ms, duration_us; then the texts of _TEXTS, UTF-8, with NUL between them.
_NUMBERS = struct.Struct("<BB3q4I2q")
_TEXTS = 8
_BETWEEN = "\x00"
# Stands for a NUL in somebody's text.
_REPLACEMENT = "\ufffd"


@dataclass(slots=True)
class _Bucket:
    bucket_id: int
    opened_at_ms: int
    rows: int
    insert: Bulk
    find: Bulk


def _bucket(bucket_id: int, opened_at_ms: int, rows: int) -> _Bucket:
    return _Bucket(
        bucket_id,
        opened_at_ms,
        rows,
        # An event that was redriven after an earlier end has its last outcome.
        Bulk(f"INSERT OR REPLACE INTO outcomes_{bucket_id} ({COLUMNS}) VALUES {{rows}}", _COLUMN_COUNT),
        Bulk(f"SELECT request_id, body_hash FROM outcomes_{bucket_id} WHERE request_id IN ({{rows}})", 1),
    )


class Outcomes:
    """The outcomes of one shard; the newest bucket takes what comes."""

    def __init__(self, database: Database, *, keep_ms: int, max_rows: int) -> None:
        self._database = database
        self._keep_ms = keep_ms
        self._stretch_ms = max(1_000, keep_ms // STRETCHES_BY_TIME)
        self._stretch_rows = max(1, max_rows // STRETCHES_BY_ROWS)
        self._max_rows = max_rows
        self._buckets: list[_Bucket] = []

    def load(self) -> None:
        """Take stock of the file."""
        for bucket_id, opened_at_ms in self._database.rows(
            "SELECT bucket_id, opened_at_ms FROM outcome_buckets ORDER BY bucket_id"
        ):
            rows = int(self._database.value(f"SELECT count(*) FROM outcomes_{bucket_id}"))
            self._buckets.append(_bucket(bucket_id, opened_at_ms, rows))

    @property
    def rows(self) -> int:
        """Outcomes kept now."""
        return sum(bucket.rows for bucket in self._buckets)

    @property
    def bucket_ids(self) -> list[int]:
        """Newest first."""
        return [bucket.bucket_id for bucket in reversed(self._buckets)]

    def write(self, values: list[Any], now_ms: int) -> None:
        """Store outcomes (COLUMNS, row after row) inside the running transaction; call `wrote` once it is durable."""
        if self._is_stretch_over(now_ms):
            bucket_id = self._buckets[-1].bucket_id + 1 if self._buckets else 1
            self._database.connection.execute(CREATE.format(id=bucket_id))
            self._database.connection.execute("INSERT INTO outcome_buckets VALUES (?, ?)", (bucket_id, now_ms))
            self._buckets.append(_bucket(bucket_id, now_ms, 0))
        self._buckets[-1].insert.run(self._database.connection, values)

    def wrote(self, values: list[Any]) -> None:
        """What was written is durable."""
        self._buckets[-1].rows += len(values) // _COLUMN_COUNT

    def rolled_back(self) -> None:
        """What was written is not: look again which tables there are."""
        self._buckets.clear()
        self.load()

    def find(self, request_ids: list[bytes], since_ms: int) -> dict[bytes, bytes]:
        """Body hashes of those that finished after `since_ms` (0: ever) and are still known."""
        found: dict[bytes, bytes] = {}
        ends_ms = [bucket.opened_at_ms for bucket in self._buckets[1:]]
        for bucket, end_ms in zip(self._buckets, [*ends_ms, None], strict=False):
            if end_ms is None or end_ms + CLOCK_SKEW_MS >= since_ms:
                found.update(bucket.find.query(self._database.connection, request_ids))
        return found

    def overdue(self, now_ms: int) -> list[int]:
        """Buckets to drop: too old, or too many rows in all."""
        dropped: list[int] = []
        total = self.rows
        for bucket, following in zip(self._buckets, self._buckets[1:], strict=False):
            if following.opened_at_ms + self._keep_ms > now_ms and total <= self._max_rows:
                break
            dropped.append(bucket.bucket_id)
            total -= bucket.rows
        return dropped

    def drop(self, bucket_id: int) -> None:
        """Drop one bucket, inside the running transaction; call `dropped` once it is durable."""
        self._database.connection.execute(f"DROP TABLE outcomes_{bucket_id}")
        self._database.connection.execute("DELETE FROM outcome_buckets WHERE bucket_id = ?", (bucket_id,))

    def dropped(self, bucket_id: int) -> None:
        """It is gone durably."""
        self._buckets = [bucket for bucket in self._buckets if bucket.bucket_id != bucket_id]

    def _is_stretch_over(self, now_ms: int) -> bool:
        if not self._buckets:
            return True
        newest = self._buckets[-1]
        return newest.rows >= self._stretch_rows or now_ms - newest.opened_at_ms >= self._stretch_ms


def outcome_row(
    entry: Entry, progress: Progress | None, state: int, condition: int, finished_at_ms: int, destination_arn: str
) -> tuple[Any, ...]:
    """The values of one outcome, in the order of COLUMNS; `progress` is the one after the end."""
    facts = pack(
        state,
        condition,
        entry.accepted_at_ms,
        finished_at_ms,
        entry.expires_at_ms,
        progress or FRESH,
        destination_arn,
        entry.qualifier,
        entry.traceparent,
        entry.tracestate,
    )
    return (entry.request_id, entry.lane.lane_id, entry.body_hash, facts)


def pack(
    state: int,
    condition: int,
    accepted_at_ms: int,
    finished_at_ms: int,
    expires_at_ms: int,
    progress: Progress,
    *others: str,
) -> bytes:
    """Facts as they are stored; the parameters are the fields of Facts, in their order."""
    numbers = _NUMBERS.pack(
        state,
        condition,
        accepted_at_ms,
        finished_at_ms,
        expires_at_ms,
        progress.function_errors,
        progress.throttles,
        progress.deliveries,
        progress.attempts,
        progress.first_started_at_ms,
        progress.duration_us,
    )
    of_run = (progress.error_type, progress.error_message, progress.executed_version, progress.sandbox_id)
    return numbers + _joined(of_run + others)


def _joined(texts: tuple[str, ...]) -> bytes:
    joined = _BETWEEN.join(texts)
    if joined.count(_BETWEEN) != _TEXTS - 1:
        joined = _BETWEEN.join(text.replace(_BETWEEN, _REPLACEMENT) for text in texts)
    return joined.encode()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a kept outcome tells."""

    state: queue_pb2.EventState.ValueType
    condition: event_pb2.Condition.ValueType
    accepted_at_ms: int
    finished_at_ms: int
    expires_at_ms: int
    progress: Progress
    destination_arn: str
    qualifier: str
    traceparent: str
    tracestate: str


def facts_from(stored: bytes) -> Facts:
    """The facts as `pack` wrote them."""
    numbers = _NUMBERS.unpack_from(stored)
    texts = stored[_NUMBERS.size :].decode().split(_BETWEEN)
    error_type, error_message, executed_version, sandbox_id, destination_arn, qualifier, traceparent, tracestate = texts
    function_errors, throttles, deliveries, attempts, first_started_at_ms, duration_us = numbers[5:]
    progress = Progress(
        function_errors,
        throttles,
        deliveries,
        attempts,
        first_started_at_ms,
        error_type,
        error_message,
        duration_us,
        executed_version,
        sandbox_id,
    )
    state, condition, accepted_at_ms, finished_at_ms, expires_at_ms = numbers[:5]
    return Facts(
        state,
        condition,
        accepted_at_ms,
        finished_at_ms,
        expires_at_ms,
        progress,
        destination_arn,
        qualifier,
        traceparent,
        tracestate,
    )
