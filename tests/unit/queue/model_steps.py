"""Steps on a real shard and on the plain model at once, and what must hold after each of them."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2

from services.queue import dead_letters, lane_counts
from services.queue.database import DiskFull
from services.queue.domain import Call, Cause, FreeLeases, Settle
from services.queue.lanes import resident_size
from services.queue.outcomes import CLOCK_SKEW_MS
from services.queue.steady_clock import MAX_SLEW
from services.queue.transitions import TRANSITIONS
from services.shared.errors import EvenflowError, Reason
from tests.unit.queue.kit import Bench, ack, bury, confirm, extend, hand_over, release
from tests.unit.queue.plain_model import LIVE_ROWS, ROWS, WAITING, Known, Model

TABLE = {(row.before.name, row.given.name, row.after.name) for row in TRANSITIONS}
TENANTS = ("t", "u")
FUNCTIONS = ("f", "g")
POLLERS = ("poller-0", "poller-1")
HOWS = (
    "ack",
    "fail",
    "bury",
    "handover",
    "extend",
    "confirm",
    "now",
    "later",
    "long",
    "throttle",
    "undeliverable",
    "unstarted",
)
AGES_MS = (3_000, 30_000, 21_600_000)
WAITS_MS = (100, 1_001, 4_000, 11_000, 61_000)
MAX_DELIVERIES = 2
OUTCOME_ROWS = 16
KEEP_MS = 60_000
FAILED_CONDITION = 2
# Nothing here cuts the power: a volume in memory spares the test thousands of waits for a disk.
MEMORY = "/dev/shm"
HOUSEKEEPING_MS = 1_000


class Steps:
    """One shard with its model. The numbers that steps take choose among what there is then, so any number will do."""

    def __init__(self, *, window_events: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ef-", dir=MEMORY if os.access(MEMORY, os.W_OK) else "/tmp"))
        self.bench = Bench(
            self.directory,
            window_events=window_events,
            max_deliveries=MAX_DELIVERIES,
            outcome_max_rows=OUTCOME_ROWS,
            outcome_keep_seconds=KEEP_MS // 1_000,
            dead_letter_keep_seconds=KEEP_MS // 1_000,
        )
        self.model = Model(MAX_DELIVERIES, self.bench.settings.visibility_timeout_ms)
        self.incarnations = dict.fromkeys(POLLERS, 0)
        self.is_full = False
        self.was_full_at_ms = -1e9
        self.enqueued = 0
        # When each available event was first seen to be so.
        self.available_since_ms: dict[bytes, int] = {}
        self.looked_at_ms = self.bench.clock.monotonic_ms()
        self.latest_ms = self.now_ms

    def close(self) -> None:
        """Remove the file."""
        self.bench.shard.database.close()
        shutil.rmtree(self.directory)

    @property
    def now_ms(self) -> int:
        """The shard's time, by which events age."""
        return self.bench.shard.now_ms

    # Steps

    def enqueue(self, tokens: list[int], tenant: int, age: int) -> None:
        """New ones are stored, with a token or without; repeats are duplicates in whatever state."""
        tenant_id = TENANTS[tenant % len(TENANTS)]
        events = []
        for token in tokens:
            function = FUNCTIONS[token % len(FUNCTIONS)]
            self.enqueued += 1
            events.append(
                self.bench.event(
                    function,
                    tenant_id,
                    b'"%d"' % (token if token else self.enqueued),
                    token=f"{tenant_id}{token}" if token else "",
                    age_ms=AGES_MS[age % len(AGES_MS)],
                )
            )
        self._send(events)

    def resend(self, pick: int) -> None:
        """A frontend repeats what it sent, whatever became of it; every other pick is one that is not over."""
        choices = (self.model.live() if pick % 2 else None) or list(self.model.events.values())
        if not choices:
            return
        known = choices[pick // 2 % len(choices)]
        if known.state in ("SUCCEEDED", "FAILED") and not known.has_token:
            later_ms = self.model.ends_ms[known.end_number :]
            if any(known.sent.accepted_at_ms > end_ms + CLOCK_SKEW_MS for end_ms in later_ms):
                # By clocks so far apart the event ended before it came: an outcome is looked for from its time on.
                return
        self._send([known.sent])

    def resend_changed(self, pick: int) -> None:
        """Another body under a token that is known is refused."""
        with_token = [k for k in self.model.events.values() if k.state != "GONE" and k.has_token]
        if with_token and not self._is_refusing():
            event = Event()
            event.CopyFrom(with_token[pick % len(with_token)].sent)
            event.payload += b" "
            refusals = self.bench.enqueue(event).event_refusals
            assert [error.reason for _, error in refusals] == [Reason.ERROR_REASON_TOKEN_REUSED]

    def lease(self, poller: int, count: int) -> None:
        """As many as there are, and only those that may be leased."""
        name = POLLERS[poller % len(POLLERS)]
        waiting = len(self.model.of(*WAITING))
        session = self.bench.poller(name, str(self.incarnations[name]), credit=count)
        session.clear_credit()
        leases = self.bench.take(name)
        assert len(leases) == min(count, waiting)
        expired = len(self.model.of("EXPIRED", "HANDOVER_EXPIRED"))
        for lease in leases:
            self.model.took(lease, name, self.now_ms, self.bench.clock.monotonic_ms())
        # What is past its age goes first.
        assert len(self.model.of("EXPIRED", "HANDOVER_EXPIRED")) == max(0, expired - count)

    def settle(self, pick: int, how: str) -> None:
        """The current receipt is always taken, unless the volume is full and something has to be written."""
        leased = self.model.leased()
        if not leased:
            return
        known = leased[pick % len(leased)]
        assert known.lease is not None
        settle, cause, delay_ms = _settle_of(known.lease, how)
        # What changes nothing on disk needs no transaction and so no room.
        writes = (
            how not in ("extend", "unstarted")
            and not (how == "handover" and known.has_handover)
            and not (how == "confirm" and (known.is_confirmed or not known.has_handover))
            and not (how == "undeliverable" and not known.has_handover)
        )
        result = self.bench.settle(settle)
        if self.is_full and writes:
            assert result.refusal is not None and result.refusal.reason == Reason.ERROR_REASON_DISK_FULL
            self._note_full()
            return
        assert result.refusal is None and not result.refusals
        monotonic_ms = self.bench.clock.monotonic_ms()
        if how == "extend":
            self.model.extended(known, monotonic_ms)
        elif how == "confirm":
            self.model.confirmed(known, monotonic_ms)
        elif how == "handover":
            self.model.handed_over(known, monotonic_ms)
        elif how in ("ack", "fail"):
            self.model.acked(known, success=how == "ack", now_ms=self.now_ms)
        elif how == "bury":
            self.model.buried(known, "DEAD_LETTER", self.now_ms)
        else:
            self.model.released(known, cause.name, delay_ms, self.now_ms)

    def settle_stale(self, pick: int, how: str) -> None:
        """A receipt that is not the current one is always refused, and changes nothing."""
        if self.model.stale:
            lease = self.model.stale[pick % len(self.model.stale)]
            result = self.bench.settle(_settle_of(lease, how)[0])
            assert [error.reason for _, error in result.refusals] == [Reason.ERROR_REASON_RECEIPT_EXPIRED]

    def restart_poller(self, poller: int) -> None:
        """Another incarnation: what the old one had is free, with a delivery more."""
        name = POLLERS[poller % len(POLLERS)]
        self.incarnations[name] += 1
        self.bench.poller(name, str(self.incarnations[name]))
        for known in self.model.leased():
            if known.poller == name:
                self._lost(known, "SESSION_GONE")

    def give_back(self, pick: int) -> None:
        """A lease that never left the node comes back without a count; a stale receipt beside it does nothing."""
        leased = self.model.leased()
        if leased:
            known = leased[pick % len(leased)]
            assert known.lease is not None
            receipts = [(lease.receipt.sequence, lease.receipt.fence) for lease in (known.lease, *self.model.stale[:1])]
            session = self.bench.shard.leases[known.lease.receipt.sequence].session
            self.bench.drain(FreeLeases(session, receipts))
            self.model.lost(known, "UNDELIVERED", self.now_ms)

    def wait(self, choice: int) -> None:
        """Time passes: leases run out, delayed events become due, events age."""
        self.bench.clock.advance(WAITS_MS[choice % len(WAITS_MS)])

    def jump_clock(self, hours: int) -> None:
        """Somebody sets the machine's clock: nothing runs out by that."""
        before_ms = self.now_ms
        self.bench.clock.jump_wall(hours * 3_600_000)
        self.bench.drain()
        assert self.now_ms == before_ms

    def fill_disk(self) -> None:
        """From now on no commit has room."""
        if not self.is_full:
            self.is_full = True
            database = self.bench.shard.database

            def refuse() -> None:
                database.rollback()
                raise DiskFull("no room")

            database.commit = refuse  # type: ignore[method-assign]

    def free_disk(self) -> None:
        """There is room again."""
        if self.is_full:
            self.is_full = False
            del self.bench.shard.database.commit

    def redrive(self, tenant: int, function: int, limit: int) -> None:
        """Some dead letters of a function get a fresh life, the oldest first."""
        moved = self._call_dead_letters(dead_letters.redrive, tenant, function, limit)
        for known in moved:
            self.model.redriven(known, self.now_ms)

    def purge(self, tenant: int, function: int, limit: int) -> None:
        """Some dead letters of a function go."""
        moved = self._call_dead_letters(dead_letters.purge, tenant, function, limit)
        for known in moved:
            self.model.dropped(known, "PURGE")

    def crash(self) -> None:
        """The process dies; the volume has room when it is back."""
        self.bench.crash()
        self._came_back()

    def close_and_open(self) -> None:
        """A clean end keeps everything too."""
        self.free_disk()
        self.bench.close()
        self.bench.open()
        self._came_back()

    # What time does, and what must hold

    def look(self) -> None:
        """Let the shard do what its time brings, and follow it in the model."""
        before_ms = self.now_ms
        self.bench.drain()
        passed_ms = self.bench.clock.monotonic_ms() - self.looked_at_ms
        assert before_ms + passed_ms * (1 - MAX_SLEW) - 1 <= self.now_ms <= before_ms + passed_ms * (1 + MAX_SLEW) + 1
        self.looked_at_ms = self.bench.clock.monotonic_ms()
        if self.bench.shard.is_disk_full:
            self._note_full()
        for known in self.model.leased():
            if known.deadline_ms <= self.looked_at_ms:
                self._lost(known, "LEASE_EXPIRED")
        for known in self.model.of("DELAYED", "HANDOVER_DELAYED"):
            if known.due_ms <= self.now_ms and not self._is_late(known):
                self.model.time_came(known)
        aside = {entry.request_id for entry in self.bench.shard.expired}
        for request_id in aside:
            known = self.model.events[request_id]
            if known.state not in ("EXPIRED", "HANDOVER_EXPIRED"):
                assert known.event.expires_at_ms <= self.now_ms, "set aside before its time"
                self.model.grew_old(known)
        assert aside == {known.event.request_id for known in self.model.of("EXPIRED", "HANDOVER_EXPIRED")}
        self._forget()
        # On a full volume the shard need not find what is past its age, nor while the clock that it started with is
        # behind the one of an earlier start: when to look again is stored.
        self.latest_ms = max(self.latest_ms, self.now_ms)
        may_miss = self._is_refusing() or self.now_ms < self.latest_ms
        waiting = [] if may_miss else self.model.of("AVAILABLE", "HANDOVER_AVAILABLE")
        ids = [known.sent.request_id for known in waiting]
        self.available_since_ms = {key: self.available_since_ms.get(key, self.now_ms) for key in ids}

    def check(self) -> None:
        """Counts exact, every event in exactly one place with the right facts, every change in the table."""
        self._check_numbers()
        self._check_rows()
        self._check_statuses()
        assert self.model.noted <= TABLE, f"not in the table: {self.model.noted - TABLE}"
        for known in self.model.leased():
            assert known.lease is not None
            assert self.bench.shard.leases[known.lease.receipt.sequence].state.name == known.state
        for request_id, since_ms in self.available_since_ms.items():
            overdue_ms = self.now_ms - max(since_ms, self.model.events[request_id].event.expires_at_ms)
            assert overdue_ms <= self.model.timeout_ms + 1, "past its age and not set aside"

    def _check_numbers(self) -> None:
        stats, shard = self.bench.shard.stats(), self.bench.shard
        live = self.model.live()
        assert stats.depth == len(live)
        assert stats.leased == len(self.model.leased()) == sum(lane.leased for lane in shard.lanes.by_key.values())
        assert stats.delayed == len(self.model.of("DELAYED", "HANDOVER_DELAYED"))
        assert stats.dead_letters == len(self.model.of("DEAD"))
        assert stats.handovers == sum(known.has_handover for known in live)
        assert shard.lanes.tenant_events == Counter(known.sent.tenant_id for known in live)
        in_events = [known for known in live if LIVE_ROWS[known.state] == "events"]
        depths = Counter((known.sent.tenant_id, known.sent.function_name) for known in in_events)
        assert {key: lane.depth for key, lane in shard.lanes.by_key.items() if lane.depth} == depths
        stored = "SELECT lane_id, events, delayed FROM lane_counts WHERE events > 0 OR delayed > 0 ORDER BY 1"
        assert shard.database.rows(stored) == shard.database.rows(f"{lane_counts.COUNTED} ORDER BY 1")
        windows = [entry for lane in shard.lanes.by_key.values() for entry in lane.ready]
        assert shard.lanes.resident_bytes == sum(map(resident_size, windows))
        assert shard.outcomes.rows == len(self.model.of("SUCCEEDED", "FAILED"))
        for poller in POLLERS:
            mine = Counter(k.sent.function_name for k in self.model.leased() if k.poller == poller)
            for session in self.bench.sessions.active:
                if session.poller_id == poller:
                    held = {f: sum(session.held((t, f)) for t in TENANTS) for f in FUNCTIONS}
                    assert Counter({f: n for f, n in held.items() if n}) == mine

    def _check_rows(self) -> None:
        database = self.bench.shard.database
        found = [
            (bytes(row[0]), place)
            for place in ("events", "delayed", "dead_letters")
            for row in database.rows(f"SELECT request_id FROM {place}")
        ]
        for bucket_id in self.bench.shard.outcomes.bucket_ids:
            rows = database.rows(f"SELECT request_id FROM outcomes_{bucket_id}")
            found += [(bytes(row[0]), "outcomes") for row in rows]
        expected = {(key, ROWS[known.state]) for key, known in self.model.events.items() if known.state != "GONE"}
        assert len(found) == len(expected) and set(found) == expected

    def _check_statuses(self) -> None:
        for request_id, known in self.model.events.items():
            status = self.bench.status(request_id, known.sent.tenant_id)
            if known.state == "GONE":
                assert status is None
                continue
            assert status is not None
            reported = "HANDOVER" if known.has_handover else known.state.replace("EXPIRED", "AVAILABLE")
            assert queue_pb2.EventState.Name(status.state) == f"EVENT_STATE_{reported}"
            assert (status.function_errors, status.throttles, status.deliveries, status.attempts) == known.counters
            assert status.expires_at_ms == known.event.expires_at_ms

    # Parts of steps

    def _send(self, events: list[Event]) -> None:
        result = self.bench.enqueue(*events)
        if result.refusal is not None:
            assert result.refusal.reason == Reason.ERROR_REASON_DISK_FULL and self._is_refusing()
            self._note_full()
            return
        assert not result.event_refusals
        repeats = [index for index, event in enumerate(events) if not self.model.sent(event)]
        assert sorted(result.duplicate_indexes) == repeats
        assert not self.is_full or len(repeats) == len(events), "stored on a full volume"

    def _is_refusing(self) -> bool:
        since_ms = self.bench.clock.monotonic_ms() - self.was_full_at_ms
        return self.is_full or since_ms <= 2 * HOUSEKEEPING_MS

    def _is_late(self, known: Known) -> bool:
        """It is due and still delayed, because the volume is full, or was within the last second or two."""
        sql = "SELECT 1 FROM delayed WHERE request_id = ?"
        is_delayed = bool(self.bench.shard.database.rows(sql, (known.sent.request_id,)))
        assert self._is_refusing() or not is_delayed, "due and not available"
        return is_delayed

    def _note_full(self) -> None:
        self.was_full_at_ms = self.bench.clock.monotonic_ms()

    def _lost(self, known: Known, given: str) -> None:
        self.model.lost(known, "UNCOUNTED" if self.is_full else given, self.now_ms)

    def _call_dead_letters(self, run: object, tenant: int, function: int, limit: int) -> list[Known]:
        tenant_id, name = TENANTS[tenant % len(TENANTS)], FUNCTIONS[function % len(FUNCTIONS)]
        chosen = dead_letters.Filter(tenant_id, function_name=name)
        answers: list[tuple[object, BaseException | None]] = []
        call = Call(
            lambda shard: run(shard, chosen, limit),  # type: ignore[operator]
            lambda result, error: answers.append((result, error)),
            writes=True,
        )
        dead = [k for k in self.model.of("DEAD") if (k.sent.tenant_id, k.sent.function_name) == (tenant_id, name)]
        rows = self.bench.shard.database.rows("SELECT request_id FROM dead_letters ORDER BY dead_id")
        order = [bytes(row[0]) for row in rows]
        dead.sort(key=lambda known: order.index(known.sent.request_id))
        self.bench.drain(call)
        ((count, error),) = answers
        if self.is_full:
            assert isinstance(error, EvenflowError) and error.reason == Reason.ERROR_REASON_DISK_FULL
            return []
        assert error is None and count == min(limit, len(dead))
        return dead[:limit]

    def _came_back(self) -> None:
        self.is_full = False
        self.was_full_at_ms = -1e9
        self.model.crashed()
        self.looked_at_ms = self.bench.clock.monotonic_ms()

    def _forget(self) -> None:
        outcomes = self.model.of("SUCCEEDED", "FAILED")
        for known in outcomes:
            if self.bench.status(known.sent.request_id, known.sent.tenant_id) is None:
                # Outcomes go in the order in which they came; a clock set back makes a later one the older one.
                later = self.model.ends_ms[known.end_number :]
                is_old = any(end_ms + KEEP_MS <= self.now_ms for end_ms in later)
                assert is_old or len(outcomes) > OUTCOME_ROWS, "forgotten too early"
                self.model.dropped(known, "FORGET")
        for known in self.model.of("DEAD"):
            if self.bench.status(known.sent.request_id, known.sent.tenant_id) is None:
                assert known.over_at_ms + KEEP_MS < self.now_ms, "a dead letter went too early"
                self.model.dropped(known, "FORGET")


def _settle_of(lease: queue_pb2.Lease, how: str) -> tuple[Settle, Cause, int]:
    """The settlement, and the cause and delay of a release."""
    releases = {
        "now": (Cause.FUNCTION_ERROR, 0),
        "later": (Cause.FUNCTION_ERROR, 5_000),
        "long": (Cause.FUNCTION_ERROR, 120_000),
        "throttle": (Cause.THROTTLE, 1_000),
        "undeliverable": (Cause.DELIVERY_FAILED, 0),
        "unstarted": (Cause.UNSTARTED, 0),
    }
    if how in releases:
        cause, delay_ms = releases[how]
        return release(lease, cause, delay_ms), cause, delay_ms
    others = {
        "ack": ack(lease),
        "fail": ack(lease, FAILED_CONDITION),
        "bury": bury(lease),
        "handover": hand_over(lease),
        "extend": extend(lease),
        "confirm": confirm(lease),
    }
    return others[how], Cause.UNSTARTED, 0
