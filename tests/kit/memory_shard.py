"""A shard that keeps its events in memory, by the contract and nothing of the real shard's code.

What fakes serve from, and the second store of the conformance suite: where the two differ, one of them is wrong.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason
from tests.kit.memory_rows import (
    MAX_RESPONSE_BYTES,
    Row,
    check_batch,
    check_event,
    check_settlement,
    check_settlements,
)
from tests.kit.shard_store import Bounds, Numbers


@dataclass
class _Poller:
    incarnation: str
    limits: dict[tuple[str, str], int] = field(default_factory=dict)


class MemoryShard:
    """See tests/kit/shard_store.py. `rows`: every event that is known, by its id."""

    def __init__(self, shard_id: int, clock: Clock, bounds: Bounds | None = None) -> None:
        self.shard_id = shard_id
        self.rows: dict[bytes, Row] = {}
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._pollers: dict[str, _Poller] = {}
        self._sequence = 0
        # Events that came to an end.
        self.ends = 0
        self._boots = 1
        self._fences = 0
        self._last_served: dict[tuple[str, str], int] = {}

    # Events in

    def enqueue(self, request: queue_pb2.EnqueueRequest) -> queue_pb2.EnqueueResponse:
        """Store a batch: ids that are there already are accepted again and stored once."""
        answer = queue_pb2.EnqueueResponse(batch_id=request.batch_id)
        try:
            check_batch(request)
            if self.numbers().depth >= self._bounds.shard_max_events:
                raise EvenflowError(Reason.ERROR_REASON_SHARD_FULL, "the shard is full", 1_000)
        except EvenflowError as e:
            answer.refusal.CopyFrom(e.to_detail())
        else:
            for index, event in enumerate(request.events):
                try:
                    if not self._store(event):
                        answer.duplicate_indexes.append(index)
                except EvenflowError as e:
                    answer.event_refusals.add(index=index, error=e.to_detail())
        answer.depth = self.numbers().depth
        return answer

    def _store(self, event: event_pb2.Event) -> bool:
        check_event(event, self.shard_id)
        known = self.rows.get(event.request_id)
        if known is not None:
            if ids.is_derived(event.request_id) and not known.is_same(event):
                raise EvenflowError(Reason.ERROR_REASON_TOKEN_REUSED, "the token was used with another body")
            return False
        if len(self.rows) >= self._bounds.tenant_max_events and self._is_full(event.tenant_id):
            raise EvenflowError(Reason.ERROR_REASON_TENANT_QUEUE_FULL, "the tenant has as many as it may", 1_000)
        stored = event_pb2.Event()
        stored.CopyFrom(event)
        self.rows[event.request_id] = Row(stored, self._next_sequence(), self._now_ms)
        return True

    # Leases

    def join(self, poller_id: str, incarnation: str) -> None:
        """A poller's stream begins without credit and limits; another incarnation's leases are free, each counted."""
        before = self._pollers.get(poller_id)
        self._pollers[poller_id] = _Poller(incarnation)
        if before is not None and before.incarnation != incarnation:
            for row in self._leased():
                if row.poller_id == poller_id:
                    self._lose(row)

    def limit(self, poller_id: str, limits: Iterable[queue_pb2.FunctionLimit]) -> None:
        """Replace these bounds of a poller that has joined."""
        mine = self._pollers[poller_id].limits
        for limit in limits:
            key = (limit.tenant_id, limit.function_name)
            mine.pop(key, None)
            if limit.HasField("max_leases"):
                mine[key] = limit.max_leases

    def lease(self, poller_id: str, events: int, payload_bytes: int = 1 << 26) -> list[queue_pb2.Lease]:
        """At most so many leases for a poller that has joined; the last one may overdraw the bytes."""
        self.tick()
        leases: list[queue_pb2.Lease] = []
        while len(leases) < events and payload_bytes > 0 and (row := self._next_for(poller_id)) is not None:
            self._fences += 1
            row.fence = self._boots << 32 | self._fences
            row.poller_id = poller_id
            self._renew(row)
            self._last_served[row.key] = self._fences
            leases.append(row.lease(self.shard_id, self._bounds.visibility_timeout_ms, self._now_ms))
            payload_bytes -= leases[-1].ByteSize()
        return leases

    def give_back(self, leases: Iterable[queue_pb2.Lease]) -> None:
        """These leases never left the node: no counter grows."""
        for lease in leases:
            row = self._current(lease.receipt)
            if row is not None:
                row.fence = 0

    def settle(self, request: queue_pb2.SettleRequest) -> queue_pb2.SettleResponse:
        """End or extend leases; a stale receipt is refused alone."""
        answer = queue_pb2.SettleResponse(batch_id=request.batch_id)
        try:
            check_settlements(request)
        except EvenflowError as e:
            answer.refusal.CopyFrom(e.to_detail())
            return answer
        for index, settlement in enumerate(request.settlements):
            try:
                self.settle_one(settlement)
            except EvenflowError as e:
                answer.refusals.add(index=index, error=e.to_detail())
        return answer

    def settle_one(self, settlement: queue_pb2.Settlement) -> None:
        """EvenflowError INVALID_PARAMETER, RECEIPT_EXPIRED."""
        check_settlement(settlement)
        row = self._current(settlement.receipt)
        if row is None:
            raise EvenflowError(Reason.ERROR_REASON_RECEIPT_EXPIRED, "the lease has moved on")
        match settlement.WhichOneof("action"):
            case "ack":
                row.note_run(settlement)
                succeeded = settlement.ack.condition == event_pb2.CONDITION_SUCCESS
                self._end(row, "succeeded" if succeeded else "failed", settlement.ack.condition)
                row.facts.destination_arn = settlement.ack.destination_arn
            case "release":
                self._release(row, settlement)
            case "handover":
                if row.handover is None:
                    row.handover = queue_pb2.Handover()
                    row.handover.CopyFrom(settlement.handover)
                    row.note_error(row.handover.outcome.error_type, row.handover.outcome.error_message)
                    row.note_run(settlement)
                self._renew(row)
            case "dead_letter":
                dead = settlement.dead_letter
                row.note_error(dead.error_type, dead.error_message)
                row.note_run(settlement)
                self._end(row, "dead", dead.condition)
                row.response = dead.response_payload[:MAX_RESPONSE_BYTES]
            case "confirm":
                part = settlement.confirm.part
                if row.handover is not None and part not in row.handover.confirmed:
                    row.handover.confirmed.append(part)
                self._renew(row)
            case _:
                self._renew(row)

    def _release(self, row: Row, settlement: queue_pb2.Settlement) -> None:
        release = settlement.release
        row.count_release(release.cause)
        row.note_error(release.error_type, release.error_message)
        row.note_run(settlement)
        row.fence = 0
        if release.delay_ms:
            row.place, row.due_ms = "delayed", self._now_ms + release.delay_ms
            if row.handover is None:
                row.due_ms = max(self._now_ms, min(row.due_ms, row.event.expires_at_ms))

    def tick(self) -> None:
        """Do what time brings."""
        monotonic_ms, now_ms, bounds = self._clock.monotonic_ms(), self._now_ms, self._bounds
        for row in self._leased():
            if row.deadline_ms <= monotonic_ms:
                self._lose(row)
        delayed = [row for row in self.rows.values() if row.place == "delayed" and row.due_ms <= now_ms]
        for row in sorted(delayed, key=lambda row: row.due_ms):
            row.place, row.sequence = "available", self._next_sequence()
        over = sorted((r for r in self.rows.values() if not r.is_live), key=lambda row: row.end_number)
        outcomes = [row for row in over if row.place != "dead"]
        for row in over:
            is_dead = row.place == "dead"
            keep_ms = (bounds.dead_letter_keep_seconds if is_dead else bounds.outcome_keep_seconds) * 1_000
            if row.over_at_ms + keep_ms < now_ms or row in outcomes[: -bounds.outcome_max_rows]:
                del self.rows[row.event.request_id]

    # What is known

    def status(self, tenant_id: str, request_id: bytes) -> queue_pb2.EventStatus | None:
        """What is known of an event; None: unknown, of another tenant, or no longer kept."""
        row = self.rows.get(request_id)
        return row.status(self.shard_id) if row is not None and row.key[0] == tenant_id else None

    def list_events(self, tenant_id: str, function_name: str, limit: int) -> list[queue_pb2.EventStatus]:
        """The newest events of a tenant or a function, newest first."""
        found = [r for r in self.rows.values() if r.key[0] == tenant_id and function_name in ("", r.key[1])]
        found.sort(key=lambda row: -row.event.accepted_at_ms)
        return [row.status(self.shard_id) for row in found[:limit]]

    def dead_letters(
        self, which: queue_pb2.DeadLetterFilter, page_size: int, page_token: str = ""
    ) -> queue_pb2.ListDeadLettersResponse:
        """A page of dead letters, oldest first, without payloads."""
        after = int(page_token or 0)
        found = [row for row in self._dead(which) if row.end_number > after]
        page = found[:page_size]
        return queue_pb2.ListDeadLettersResponse(
            dead_letters=[
                queue_pb2.DeadLetterEntry(status=row.status(self.shard_id), dead_at_ms=row.over_at_ms) for row in page
            ],
            next_page_token=str(page[-1].end_number) if len(found) > len(page) else "",
        )

    def dead_letter(self, tenant_id: str, request_id: bytes) -> queue_pb2.DeadLetterEntry | None:
        """One dead letter with its payload."""
        for row in self._dead(queue_pb2.DeadLetterFilter(tenant_id=tenant_id, request_id=request_id)):
            return queue_pb2.DeadLetterEntry(
                status=row.status(self.shard_id),
                dead_at_ms=row.over_at_ms,
                event=row.event,
                response_payload=row.response,
            )
        return None

    def redrive(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Give the oldest ones a fresh life; how many."""
        chosen = self._dead(which)[:max_events]
        for row in chosen:
            row.begin_anew(self._next_sequence(), self._now_ms)
        return len(chosen)

    def purge(self, which: queue_pb2.DeadLetterFilter, max_events: int) -> int:
        """Delete the oldest ones; how many."""
        chosen = self._dead(which)[:max_events]
        for row in chosen:
            del self.rows[row.event.request_id]
        return len(chosen)

    def numbers(self) -> Numbers:
        """How much of what is in the shard now."""
        rows = self.rows.values()
        return Numbers(
            sum(row.is_live for row in rows),
            sum(row.fence != 0 for row in rows),
            sum(row.place == "delayed" for row in rows),
            sum(row.place == "dead" for row in rows),
            sum(row.is_live and row.handover is not None for row in rows),
        )

    # Ends

    def crash(self) -> None:
        """Leases and pollers are memory's; all else stays."""
        self._boots += 1
        self._pollers.clear()
        for row in self.rows.values():
            row.fence = 0

    def reopen(self) -> None:
        """The same."""
        self.crash()

    def close(self) -> None:
        """Nothing is left anywhere."""

    @property
    def _now_ms(self) -> int:
        return self._clock.wall_ms()

    def _is_full(self, tenant_id: str) -> bool:
        live = sum(row.is_live and row.key[0] == tenant_id for row in self.rows.values())
        return live >= self._bounds.tenant_max_events

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def _leased(self) -> list[Row]:
        return [row for row in self.rows.values() if row.fence]

    def _current(self, receipt: queue_pb2.Receipt) -> Row | None:
        for row in self._leased():
            if (row.sequence, row.fence) == (receipt.sequence, receipt.fence):
                return row
        return None

    def _renew(self, row: Row) -> None:
        row.deadline_ms = self._clock.monotonic_ms() + self._bounds.visibility_timeout_ms

    def _lose(self, row: Row) -> None:
        row.fence = 0
        row.facts.deliveries += 1
        if row.facts.deliveries > self._bounds.max_deliveries:
            self._end(row, "dead", event_pb2.CONDITION_DELIVERIES_EXHAUSTED)

    def _end(self, row: Row, place: str, condition: event_pb2.Condition.ValueType) -> None:
        self.ends += 1
        row.end(place, condition, self._now_ms, self.ends)

    def _next_for(self, poller_id: str) -> Row | None:
        """What is past its age; then the oldest event of the function that was served least lately."""
        waiting = [row for row in self.rows.values() if row.place == "available" and not row.fence]
        expired = [row for row in waiting if row.event.expires_at_ms <= self._now_ms]
        if expired:
            return expired[0]
        limits = self._pollers[poller_id].limits
        held: dict[tuple[str, str], int] = {}
        for row in self._leased():
            held[row.key] = held.get(row.key, 0) + (row.poller_id == poller_id)
        allowed = [row for row in waiting if row.key not in limits or held.get(row.key, 0) < limits[row.key]]
        return min(allowed, key=lambda row: (self._last_served.get(row.key, 0), row.sequence), default=None)

    def _dead(self, which: queue_pb2.DeadLetterFilter) -> list[Row]:
        found = [
            row
            for row in self.rows.values()
            if row.place == "dead"
            and row.key[0] == which.tenant_id
            and which.request_id in (b"", row.event.request_id)
            and which.function_name in ("", row.key[1])
            and which.error_type in ("", row.facts.error_type)
        ]
        return sorted(found, key=lambda row: row.end_number)
