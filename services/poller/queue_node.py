"""One queue node as a poller sees it: a Lease stream and a Settle stream, and the leases held of it."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from evenflow.control.v1 import resources_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.poller import settlements
from services.poller.functions import FunctionKey
from services.poller.held import Held, Stage
from services.poller.window import Account, Window
from services.shared.channels import Peer
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason
from services.shared.streams import QUEUE_GAP_MS, StreamLink

MAX_BATCH_SETTLEMENTS = 1_000
MAX_BATCH_BYTES = 3_500_000
SETTLEMENT_OVERHEAD_BYTES = 2_048
# One batch commits while the next one travels; what comes up meanwhile makes the third one larger.
MAX_UNANSWERED_BATCHES = 3
MAX_LIMITS = 1_000
RETRY_MS = 100.0
# Nobody waits for a settlement, and each message of them is a commit in every shard that it names.
SETTLE_GAP_MS = 4.0
MAX_SETTLE_GAP_MS = 20.0
SETTLE_GAP_MS_AN_EVENT = 0.25
log = logging.getLogger(__name__)


class LeaseOwner(Protocol):
    """Who decides about leases."""

    def leased(self, node: "QueueNode", leases: list[Held]) -> None:
        """These leases came."""
        ...

    def settle_sent(self, held: Held) -> None:
        """The settlement of a lease with a span goes out."""
        ...

    def settled(self, held: Held) -> None:
        """The settlement is durable."""
        ...

    def stale(self, held: Held) -> None:
        """The shard refused the receipt: somebody else may have the event."""
        ...

    def settle_failed(self, held: Held, error: EvenflowError) -> None:
        """The shard will not take the settlement: the lease runs out by itself."""
        ...

    def lease_link_down(self, node: "QueueNode") -> None:
        """No leases come; those that are held may be free again."""
        ...


class QueueNode:
    """Streams, credits, limits and settlements of one node."""

    def __init__(
        self,
        member: resources_pb2.Member,
        peer: Peer,
        *,
        poller_id: str,
        incarnation: str,
        epoch: Callable[[], int],
        limits: dict[FunctionKey, int],
        window: Window,
        clock: Clock,
        owner: LeaseOwner,
        settle_keep_ms: float,
    ) -> None:
        self.node_id = member.node_id
        self.target = peer.target
        self.account = Account()
        self.leases: set[Held] = set()
        # Shortest visibility timeout that the node has told; 0: none yet.
        self.visibility_ms = 0
        # A node without shards gets no credit: its part of the window is for those that have some.
        self.has_shards = True
        self._window = window
        self._clock = clock
        self._owner = owner
        self._epoch = epoch
        self._settle_keep_ms = settle_keep_ms
        # All limits in force, shared by the nodes; and those that this node has yet to be told.
        self._limits = limits
        self._untold: dict[FunctionKey, None] = {}
        self._outbox: deque[Held] = deque()
        self._extends: deque[Held] = deque()
        self._again: list[tuple[float, Held]] = []
        self._sent: dict[int, list[tuple[Held, bool]]] = {}
        self._batch_id = 0
        stub = queue_pb2_grpc.QueueServiceStub(peer.channel)
        self._hello = lambda: queue_pb2.LeaseRequest(
            hello=queue_pb2.LeaseHello(poller_id=poller_id, incarnation=incarnation, shard_map_epoch=epoch())
        )
        self._lease_link: StreamLink[queue_pb2.LeaseRequest, queue_pb2.LeaseResponse] = StreamLink(
            f"{self.node_id} lease",
            dial=lambda: stub.Lease(metadata=peer.metadata),
            hello=self._hello,
            produce=self._produce_lease_request,
            on_message=self._on_leases,
            on_up=self._on_lease_up,
            on_down=lambda _error: self._on_lease_down(),
            gap_ms=lambda _request: QUEUE_GAP_MS,
        )
        self._settle_link: StreamLink[queue_pb2.SettleRequest, queue_pb2.SettleResponse] = StreamLink(
            f"{self.node_id} settle",
            dial=lambda: stub.Settle(metadata=peer.metadata),
            produce=self._produce_settle_request,
            on_message=self._on_settled,
            on_down=lambda _error: self._on_settle_down(),
            gap_ms=_settle_gap_ms,
        )

    def start(self) -> None:
        """Keep both streams up."""
        self._lease_link.start()
        self._settle_link.start()

    async def stop_leasing(self) -> None:
        """End the lease stream, and with it what was granted; settlements go on."""
        await self._lease_link.close()

    async def close(self) -> None:
        """End both streams."""
        await self._lease_link.close()
        await self._settle_link.close()

    @property
    def unsettled(self) -> int:
        """Settlements that are not confirmed yet."""
        return len(self._outbox) + len(self._again) + sum(len(batch) for batch in self._sent.values())

    # --- leases

    def wake(self) -> None:
        """The window may have opened."""
        if self.has_shards and any(self._window.credit(self.account)):
            self._lease_link.wake()

    def limit_changed(self, key: FunctionKey) -> None:
        """The limit of a function changed in the shared limits: tell the node."""
        self._untold[key] = None
        self._lease_link.wake()

    def forget(self, held: Held) -> None:
        """The lease is over: its room is free."""
        if held.stage is Stage.OVER:
            return
        self.change_stage(held, Stage.OVER)
        self.leases.discard(held)
        self.account.held -= 1
        self.account.held_bytes -= held.size_bytes

    def change_stage(self, held: Held, stage: Stage) -> None:
        """Keep count of the leases that wait or run."""
        was_active = held.stage <= Stage.RUNNING
        held.stage = stage
        is_active = stage <= Stage.RUNNING
        if was_active != is_active:
            self.account.active += 1 if is_active else -1

    def _on_lease_up(self) -> None:
        # What was granted on the last stream is void.
        self.account.granted = self.account.granted_bytes = 0
        self._untold = dict.fromkeys(self._limits)

    def _on_lease_down(self) -> None:
        self.account.granted = self.account.granted_bytes = 0
        self._owner.lease_link_down(self)

    def _produce_lease_request(self) -> queue_pb2.LeaseRequest | None:
        if self._untold:
            limits = queue_pb2.FunctionLimits()
            while self._untold and len(limits.limits) < MAX_LIMITS:
                key, _ = self._untold.popitem()
                limits.limits.add(tenant_id=key[0], function_name=key[1], max_leases=self._limits.get(key))
            return queue_pb2.LeaseRequest(limits=limits)
        events, size = self._window.credit(self.account) if self.has_shards else (0, 0)
        if not events:
            return None
        self.account.granted += events
        self.account.granted_bytes += size
        return queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=events, bytes=size))

    def _on_leases(self, response: queue_pb2.LeaseResponse) -> None:
        now_ms, now_ns = self._clock.monotonic_ms(), self._clock.wall_ns()
        arrived = [Held(lease, self, now_ms, now_ns) for lease in response.leases]
        size = sum(held.size_bytes for held in arrived)
        account = self.account
        account.granted -= len(arrived)
        account.granted_bytes -= size
        account.held += len(arrived)
        account.active += len(arrived)
        account.held_bytes += size
        self.leases.update(arrived)
        for held in arrived:
            if not self.visibility_ms or held.visibility_ms < self.visibility_ms:
                self.visibility_ms = held.visibility_ms
        self._owner.leased(self, arrived)

    # --- settlements

    def settle(self, held: Held, settlement: queue_pb2.Settlement, *, settles: bool = True) -> None:
        """Send a settlement; `settles` False for a handover, which keeps the lease."""
        if held.stage is Stage.OVER:
            return
        self.change_stage(held, Stage.SETTLING)
        held.settlement = settlement
        held.settles = settles
        held.was_resent = False
        held.settle_since_ms = self._clock.monotonic_ms()
        self._outbox.append(held)
        self._settle_link.wake()

    def extend(self, held: Held) -> None:
        """Have the lease start anew."""
        held.renewed_ms = self._clock.monotonic_ms()
        if self._settle_link.is_up:
            self._extends.append(held)
            self._settle_link.wake()

    def tick(self, now_ms: float) -> None:
        """Send again what a shard could not take a moment ago."""
        if self._again and self._again[0][0] <= now_ms:
            due = [held for at_ms, held in self._again if at_ms <= now_ms]
            self._again = [(at_ms, held) for at_ms, held in self._again if at_ms > now_ms]
            self._outbox.extend(held for held in due if held.stage is not Stage.OVER)
            self._settle_link.wake()

    def _produce_settle_request(self) -> queue_pb2.SettleRequest | None:
        if len(self._sent) >= MAX_UNANSWERED_BATCHES:
            return None
        batch: list[tuple[Held, bool]] = []
        messages: list[queue_pb2.Settlement] = []
        size = 0
        while self._outbox and len(batch) < MAX_BATCH_SETTLEMENTS:
            held = self._outbox[0]
            settlement = held.settlement
            if settlement is None or held.stage is Stage.OVER:
                self._outbox.popleft()
                continue
            size += SETTLEMENT_OVERHEAD_BYTES + _payload_bytes(settlement)
            if batch and size > MAX_BATCH_BYTES:
                break
            self._outbox.popleft()
            if held.span is not None:
                self._owner.settle_sent(held)
            batch.append((held, True))
            messages.append(settlement)
        while self._extends and len(batch) < MAX_BATCH_SETTLEMENTS:
            held = self._extends.popleft()
            if held.stage < Stage.SETTLING:
                batch.append((held, False))
                messages.append(settlements.extend(held.receipt))
        if not batch:
            return None
        self._batch_id += 1
        self._sent[self._batch_id] = batch
        return queue_pb2.SettleRequest(batch_id=self._batch_id, shard_map_epoch=self._epoch(), settlements=messages)

    def _on_settled(self, response: queue_pb2.SettleResponse) -> None:
        batch = self._sent.pop(response.batch_id, None)
        if batch is None:
            return
        if response.HasField("refusal"):
            refused = dict.fromkeys(range(len(batch)), response.refusal)
        else:
            refused = {refusal.index: refusal.error for refusal in response.refusals}
        for index, (held, is_settlement) in enumerate(batch):
            detail = refused.get(index) if refused else None
            if held.stage is Stage.OVER:
                continue
            if detail is not None:
                self._refused(held, is_settlement, EvenflowError.from_detail(detail))
            elif is_settlement:
                self._confirmed(held)
        self._settle_link.wake()
        self.wake()

    def _confirmed(self, held: Held) -> None:
        held.settlement = None
        held.renewed_ms = self._clock.monotonic_ms()
        if held.settles:
            self.forget(held)
        self._owner.settled(held)

    def _refused(self, held: Held, is_settlement: bool, error: EvenflowError) -> None:
        if error.reason == Reason.ERROR_REASON_RECEIPT_EXPIRED:
            # A settlement that was sent twice has most likely ended its own lease.
            was_ours = is_settlement and held.was_resent
            self.forget(held)
            if was_ours:
                self._owner.settled(held)
            else:
                self._owner.stale(held)
        elif not is_settlement:
            # The next tick extends again, or the lease runs out.
            pass
        elif not error.kind.retryable or self._is_overdue(held):
            self.forget(held)
            self._owner.settle_failed(held, error)
        else:
            held.was_resent = held.was_resent or error.reason == Reason.ERROR_REASON_OUTCOME_UNKNOWN
            self._again.append((self._clock.monotonic_ms() + RETRY_MS, held))

    def _is_overdue(self, held: Held) -> bool:
        return self._clock.monotonic_ms() - held.settle_since_ms > self._settle_keep_ms

    def _on_settle_down(self) -> None:
        # Whether these were stored is not known; the receipt makes a repeat harmless.
        unanswered = [held for batch in self._sent.values() for held, is_settlement in batch if is_settlement]
        self._sent.clear()
        self._extends.clear()
        for held in unanswered:
            held.was_resent = True
        self._outbox.extendleft(reversed(unanswered))


def _settle_gap_ms(request: queue_pb2.SettleRequest) -> float:
    return min(MAX_SETTLE_GAP_MS, SETTLE_GAP_MS + len(request.settlements) * SETTLE_GAP_MS_AN_EVENT)


def _payload_bytes(settlement: queue_pb2.Settlement) -> int:
    match settlement.WhichOneof("action"):
        case "handover":
            return len(settlement.handover.outcome.response_payload)
        case "dead_letter":
            return len(settlement.dead_letter.response_payload)
    return 0
