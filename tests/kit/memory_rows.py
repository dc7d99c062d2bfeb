"""Events of a shard in memory: what is kept of each, and what settlements make of it."""

from dataclasses import dataclass, field

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from services.shared.errors import EvenflowError, Reason, invalid

State = queue_pb2.EventState
MAX_BATCH = 1_000
MAX_NAME_LENGTH = 64
# A payload of 1 MiB and room for the rest of the event.
MAX_EVENT_BYTES = (1 << 20) + (16 << 10)
MAX_DELAY_MS = 6 * 3_600 * 1_000
MAX_RESPONSE_BYTES = 65_536
_UNCOUNTED = (
    event_pb2.OUTCOME_STATUS_UNSPECIFIED,
    event_pb2.OUTCOME_STATUS_THROTTLED,
    event_pb2.OUTCOME_STATUS_SYSTEM_ERROR,
)
_PARTS = (queue_pb2.HANDOVER_PART_DESTINATION, queue_pb2.HANDOVER_PART_DEAD_LETTER_QUEUE)
_DELIVERY_FAILED = (queue_pb2.RELEASE_CAUSE_DELIVERY_FAILED, queue_pb2.RELEASE_CAUSE_DELIVERY_REFUSED)


@dataclass
class Row:
    """One event. `facts`: its counters and what is known of its runs, as the status tells them."""

    event: event_pb2.Event
    sequence: int
    enqueued_at_ms: int
    place: str = "available"
    due_ms: int = 0
    over_at_ms: int = 0
    # In which order it ended.
    end_number: int = 0
    facts: queue_pb2.EventStatus = field(default_factory=queue_pb2.EventStatus)
    handover: queue_pb2.Handover | None = None
    response: bytes = b""
    # Of its lease, which a crash forgets; 0: none.
    fence: int = 0
    poller_id: str = ""
    deadline_ms: float = 0.0

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and function."""
        return self.event.tenant_id, self.event.function_name

    @property
    def is_live(self) -> bool:
        """Not settled to an end."""
        return self.place in ("available", "delayed")

    @property
    def state(self) -> State.ValueType:
        """As callers see it."""
        if self.place in ("succeeded", "failed", "dead"):
            return State.Value(f"EVENT_STATE_{self.place.upper()}")
        if self.handover is not None:
            return queue_pb2.EVENT_STATE_HANDOVER
        if self.place == "delayed":
            return queue_pb2.EVENT_STATE_DELAYED
        return queue_pb2.EVENT_STATE_LEASED if self.fence else queue_pb2.EVENT_STATE_AVAILABLE

    def is_same(self, event: event_pb2.Event) -> bool:
        """Whether a repeat under the same token has the same body."""
        mine = self.event
        return (mine.function_name, mine.qualifier, mine.payload) == (
            event.function_name,
            event.qualifier,
            event.payload,
        )

    def status(self, shard_id: int) -> queue_pb2.EventStatus:
        """What is told of it."""
        event, status = self.event, queue_pb2.EventStatus()
        status.CopyFrom(self.facts)
        status.request_id, status.tenant_id, status.function_name = (
            event.request_id,
            event.tenant_id,
            event.function_name,
        )
        status.qualifier, status.shard_id, status.state = event.qualifier, shard_id, self.state
        status.accepted_at_ms, status.expires_at_ms = event.accepted_at_ms, event.expires_at_ms
        status.trace.CopyFrom(event.trace)
        if self.place == "delayed":
            status.available_at_ms = self.due_ms
        if not self.is_live:
            status.finished_at_ms = self.over_at_ms
        elif self.handover is not None:
            status.condition = self.handover.condition
            status.destination_arn = self.handover.destination_arn or self.handover.dead_letter_arn
        return status

    def lease(self, shard_id: int, timeout_ms: int, now_ms: int) -> queue_pb2.Lease:
        """As its poller gets it."""
        facts = self.facts
        return queue_pb2.Lease(
            receipt=queue_pb2.Receipt(shard_id=shard_id, sequence=self.sequence, fence=self.fence),
            event=self.event,
            function_errors=facts.function_errors,
            throttles=facts.throttles,
            deliveries=facts.deliveries,
            visibility_timeout_ms=timeout_ms,
            expired=self.event.expires_at_ms <= now_ms,
            handover=self.handover,
            attempts=facts.attempts,
            enqueued_at_ms=self.enqueued_at_ms,
        )

    def begin_anew(self, sequence: int, now_ms: int) -> None:
        """A fresh life with the same age from now on."""
        age_ms = max(1, self.event.expires_at_ms - self.event.accepted_at_ms)
        event = event_pb2.Event()
        event.CopyFrom(self.event)
        event.accepted_at_ms, event.expires_at_ms = now_ms, now_ms + age_ms
        self.event, self.sequence, self.enqueued_at_ms = event, sequence, now_ms
        self.place, self.facts, self.response = "available", queue_pb2.EventStatus(), b""

    def end(self, place: str, condition: event_pb2.Condition.ValueType, now_ms: int, end_number: int) -> None:
        """It is over, or dead."""
        self.place, self.over_at_ms, self.end_number = place, now_ms, end_number
        self.facts.condition = condition
        self.handover = None
        self.fence = 0

    def note_run(self, settlement: queue_pb2.Settlement) -> None:
        """Take the facts of a run into its own."""
        if not settlement.HasField("attempt"):
            return
        facts, attempt, action = self.facts, settlement.attempt, settlement.WhichOneof("action")
        facts.attempts += attempt.status not in _UNCOUNTED
        if attempt.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR and action in ("handover", "dead_letter"):
            facts.function_errors += 1
        facts.first_started_at_ms = facts.first_started_at_ms or attempt.started_at_ms
        facts.duration_us = attempt.duration_us
        facts.executed_version, facts.sandbox_id = attempt.executed_version, attempt.sandbox_id
        if action == "ack" and settlement.ack.condition == event_pb2.CONDITION_SUCCESS:
            facts.error_type = facts.error_message = ""

    def note_error(self, error_type: str, error_message: str) -> None:
        """The last error, where there is one."""
        if error_type or error_message:
            self.facts.error_type, self.facts.error_message = error_type[:256], error_message[:1_024]

    def count_release(self, cause: queue_pb2.ReleaseCause.ValueType) -> None:
        """Exactly one counter grows, by the cause."""
        if cause == queue_pb2.RELEASE_CAUSE_FUNCTION_ERROR:
            self.facts.function_errors += 1
            self.facts.throttles = 0
        elif cause == queue_pb2.RELEASE_CAUSE_THROTTLE:
            self.facts.throttles += 1
        elif self.handover is not None and cause in _DELIVERY_FAILED:
            self.handover.delivery_failures += 1
            self.handover.delivery_refusals += cause == queue_pb2.RELEASE_CAUSE_DELIVERY_REFUSED


def check_batch(request: queue_pb2.EnqueueRequest) -> None:
    """EvenflowError INVALID_PARAMETER: the batch as a whole breaks the contract."""
    if not request.batch_id:
        raise invalid("batch_id must not be 0")
    if not 1 <= len(request.events) <= MAX_BATCH:
        raise invalid(f"a batch has 1 to {MAX_BATCH} events")


def check_event(event: event_pb2.Event, shard_id: int) -> None:
    """EvenflowError INVALID_PARAMETER, REQUEST_TOO_LARGE: this event cannot be stored."""
    try:
        is_ours = ids.shard_of(event.request_id) == shard_id
    except ValueError:
        is_ours = False
    if not is_ours:
        raise invalid(f"request_id is not one of shard {shard_id}")
    if not all(0 < len(name) <= MAX_NAME_LENGTH for name in (event.tenant_id, event.function_name)):
        raise invalid(f"tenant_id and function_name have 1 to {MAX_NAME_LENGTH} characters")
    if event.ByteSize() > MAX_EVENT_BYTES:
        raise EvenflowError(Reason.ERROR_REASON_REQUEST_TOO_LARGE, "the event is too large")


def check_settlements(request: queue_pb2.SettleRequest) -> None:
    """EvenflowError INVALID_PARAMETER: the batch as a whole breaks the contract."""
    if not request.batch_id:
        raise invalid("batch_id must not be 0")
    if not 1 <= len(request.settlements) <= MAX_BATCH:
        raise invalid(f"a batch has 1 to {MAX_BATCH} settlements")


def check_settlement(settlement: queue_pb2.Settlement) -> None:
    """EvenflowError INVALID_PARAMETER."""
    action = settlement.WhichOneof("action")
    if action is None:
        raise invalid("a settlement has an action")
    release = settlement.release
    if action == "release" and release.cause not in queue_pb2.ReleaseCause.values()[1:]:
        raise invalid("a release says its cause")
    if action == "release" and not 0 <= release.delay_ms <= MAX_DELAY_MS:
        raise invalid(f"delay_ms must be within 0 to {MAX_DELAY_MS}")
    if action == "confirm" and settlement.confirm.part not in _PARTS:
        raise invalid("a confirmation says which part")
