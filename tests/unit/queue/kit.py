"""A shard without a thread, driven by hand."""

import dataclasses
from pathlib import Path
from typing import Any

from evenflow.common.v1.event_pb2 import CONDITION_SUCCESS, Event
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import (
    Action,
    Attempt,
    Cause,
    Command,
    EnqueueBatch,
    EnqueueResult,
    Settle,
    SettleBatch,
    SettleResult,
    Wake,
)
from services.queue.identity import Manifest, close_verified, open_verified
from services.queue.messages import batch_from
from services.queue.sessions import PollerSession, Sessions
from services.queue.settings import QueueSettings
from services.queue.shard import Shard
from services.shared import ids
from services.shared.clock import FakeClock

AGE_MS = 21_600_000


class Bench:
    """One shard on a real file, a fake clock, and pollers that collect their leases."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.clock = FakeClock()
        base = QueueSettings(node_id="queue-0", data_dir=str(directory), run_dir=str(directory), token_file="")
        self.settings = dataclasses.replace(base, **{"reserve_bytes": 0, **settings})
        self.boots = 0
        self.minted = 0
        self.open()

    def open(self) -> None:
        """Open the shard (again), as a fresh process would."""
        self.boots += 1
        self.sessions = Sessions()
        self.inbox: dict[str, list[queue_pb2.Lease]] = {}
        self.manifest = Manifest(self.directory)
        database = open_verified(self.directory, 0, self.manifest, 1 << 20)
        self.shard = Shard(0, database, self.settings, self.clock, self.sessions, self.boots)

    def crash(self) -> None:
        """Lose everything in memory."""
        self.shard.database.close()
        self.open()

    def close(self) -> None:
        """A clean end."""
        close_verified(self.shard.database, 0, self.manifest)

    def drain(self, *commands: Command) -> None:
        """Apply and call the replies, until there is nothing more at once."""
        pending = list(commands)
        while True:
            completions, _ = self.shard.drain(pending)
            for function, arguments in completions:
                function(*arguments)
            if not self.shard.has_more:
                return
            pending = []

    def event(
        self, function: str = "f", tenant: str = "t", payload: bytes = b"{}", token: str = "", age_ms: int = AGE_MS
    ) -> Event:
        """A fresh event; with a token its id is derived."""
        now_ms = self.clock.wall_ms()
        self.minted += 1
        number = self.minted
        request_id = (
            ids.derive(tenant, "token", token.encode(), 1)
            if token
            else ids.mint(now_ms, 0, lambda n: number.to_bytes(n, "big"))
        )
        return Event(
            tenant_id=tenant,
            function_name=function,
            qualifier="$LATEST",
            request_id=request_id,
            payload=payload,
            accepted_at_ms=now_ms,
            expires_at_ms=now_ms + age_ms,
        )

    def batch(self, events: list[Event], found: list[EnqueueResult]) -> EnqueueBatch:
        """A batch whose result lands in `found`."""
        request = queue_pb2.EnqueueRequest(batch_id=1, shard_map_epoch=1, events=events)
        return batch_from(request, self.clock.wall_ns(), found.append)

    def enqueue(self, *events: Event) -> EnqueueResult:
        """Enqueue one batch."""
        found: list[EnqueueResult] = []
        self.drain(self.batch(list(events), found))
        return found[0]

    def poller(self, name: str = "poller-0", incarnation: str = "a", credit: int = 0) -> PollerSession:
        """A poller whose leases collect in `inbox`."""
        leases = self.inbox.setdefault(name, [])
        session, replaced = self.sessions.attach(
            name,
            incarnation,
            lambda batch: leases.extend(queue_pb2.LeaseResponse.FromString(b"".join(batch.parts)).leases),
        )
        if replaced is not None:
            from services.queue.domain import FreeLeases

            self.drain(FreeLeases(replaced))
        if credit:
            self.credit(session, credit)
        return session

    def credit(self, session: PollerSession, events: int) -> None:
        """Grant credit and let the shard deliver."""
        session.add_credit(events, 1 << 26)
        self.drain(Wake(None))

    def take(self, name: str = "poller-0") -> list[queue_pb2.Lease]:
        """The leases that came since the last look."""
        taken = list(self.inbox[name])
        self.inbox[name].clear()
        return taken

    def lease(self, count: int = 1) -> list[queue_pb2.Lease]:
        """Lease this many with the usual poller, then take its credit away."""
        session = self.poller(credit=count)
        session.clear_credit()
        return self.take()

    def settle(self, *settles: Settle) -> SettleResult:
        """Settle one batch."""
        found: list[SettleResult] = []
        self.drain(SettleBatch(list(settles), 100, self.clock.wall_ns(), found.append))
        return found[0]

    def status(self, request_id: bytes, tenant: str = "t") -> queue_pb2.EventStatus | None:
        """What the shard knows of an event."""
        from services.queue import status

        return status.find(self.shard, tenant, request_id)


RAN = Attempt(started_at_ms=5, duration_us=7, counts=True, executed_version="$LATEST", sandbox_id="r/1")


def ack(lease: queue_pb2.Lease, condition: int = 1) -> Settle:
    """The event is done."""
    return Settle(0, lease.receipt.sequence, lease.receipt.fence, Action.ACK, RAN, condition=condition)


def release(lease: queue_pb2.Lease, cause: Cause, delay_ms: int = 0) -> Settle:
    """The event comes back."""
    attempt = RAN if cause is Cause.FUNCTION_ERROR else None
    receipt = lease.receipt
    return Settle(0, receipt.sequence, receipt.fence, Action.RELEASE, attempt, delay_ms=delay_ms, cause=cause)


def hand_over(lease: queue_pb2.Lease) -> Settle:
    """The run is done."""
    payload = queue_pb2.Handover(condition=CONDITION_SUCCESS, destination_arn="arn:x").SerializeToString()
    return Settle(0, lease.receipt.sequence, lease.receipt.fence, Action.HANDOVER, RAN, condition=1, payload=payload)


def bury(lease: queue_pb2.Lease) -> Settle:
    """The event dies."""
    receipt = lease.receipt
    return Settle(
        0, receipt.sequence, receipt.fence, Action.DEAD_LETTER, RAN, condition=2, error_type="E", payload=b"out"
    )


def extend(lease: queue_pb2.Lease) -> Settle:
    """The lease starts anew."""
    return Settle(0, lease.receipt.sequence, lease.receipt.fence, Action.EXTEND)


def confirm(lease: queue_pb2.Lease) -> Settle:
    """The dead-letter queue has it."""
    part = int(queue_pb2.HANDOVER_PART_DEAD_LETTER_QUEUE)
    return Settle(0, lease.receipt.sequence, lease.receipt.fence, Action.CONFIRM, part=part)
