"""What a shard speaks of: entries, their progress, and the commands that callers hand to it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from services.queue.states import State
from services.queue.transitions import Input
from services.shared.errors import EvenflowError

if TYPE_CHECKING:
    from services.queue.lanes import Lane
    from services.queue.sessions import PollerSession
    from services.queue.shard import Shard

# A sequence is lane_id << LANE_SHIFT | place in the lane; both bounds fit in SQLite's signed 64 bits.
LANE_SHIFT = 42
MAX_LANES = (1 << 21) - 1
PLACE_MASK = (1 << LANE_SHIFT) - 1
ZONE_SHIFT = 12
DUE_SHIFT = 21
DUE_MASK = (1 << DUE_SHIFT) - 1


class Progress(NamedTuple):
    """What is stored of an event's way so far; names and order are those of PROGRESS_COLUMNS."""

    function_errors: int = 0
    throttles: int = 0
    deliveries: int = 0
    attempts: int = 0
    first_started_at_ms: int = 0
    error_type: str = ""
    error_message: str = ""
    duration_us: int = 0
    executed_version: str = ""
    sandbox_id: str = ""


PROGRESS_COLUMNS = ", ".join(Progress._fields)
FRESH = Progress()


class Entry:
    """One event in memory: new, in a lane's window, or leased. `progress` None: nothing has happened to it yet."""

    __slots__ = (
        "accepted_at_ms",
        "available_ns",
        "body_hash",
        "deadline_ms",
        "enqueued_at_ms",
        "event",
        "event_bytes",
        "expires_at_ms",
        "fence",
        "function_name",
        "handover",
        "index",
        "lane",
        "progress",
        "qualifier",
        "request_id",
        "sequence",
        "session",
        "state",
        "tenant_id",
        "traceparent",
        "tracestate",
    )

    lane: "Lane"
    session: "PollerSession"
    fence: int
    deadline_ms: float

    def __init__(
        self,
        index: int,
        request_id: bytes,
        tenant_id: str,
        function_name: str,
        qualifier: str,
        event: bytes,
        accepted_at_ms: int,
        expires_at_ms: int,
        traceparent: str,
        tracestate: str,
        body_hash: bytes,
    ) -> None:
        self.index = index
        self.request_id = request_id
        self.tenant_id = tenant_id
        self.function_name = function_name
        self.qualifier = qualifier
        # None while it need not be in memory: it is read again when it is needed.
        self.event: bytes | None = event
        self.event_bytes = len(event)
        self.accepted_at_ms = accepted_at_ms
        self.expires_at_ms = expires_at_ms
        self.traceparent = traceparent
        self.tracestate = tracestate
        self.body_hash = body_hash
        self.sequence = 0
        # Changed only to the state that a row of the transitions names.
        self.state = State.GONE
        self.enqueued_at_ms = 0
        # When it became available the last time, for its span; 0: it was read from disk since.
        self.available_ns = 0
        self.progress: Progress | None = None
        self.handover: bytes | None = None


class Action(enum.IntEnum):
    """What a settlement does with its lease."""

    ACK = Input.ACK
    RELEASE = Input.RELEASE
    HANDOVER = Input.HANDOVER
    DEAD_LETTER = Input.DEAD_LETTER
    EXTEND = Input.EXTEND
    CONFIRM = Input.CONFIRM


class Cause(enum.IntEnum):
    """Which counter a release grows; the numbers of evenflow.queue.v1.ReleaseCause."""

    FUNCTION_ERROR = 1
    THROTTLE = 2
    UNSTARTED = 3
    DELIVERY_FAILED = 4
    DELIVERY_REFUSED = 5


class Attempt(NamedTuple):
    """Facts of one run."""

    started_at_ms: int
    duration_us: int
    counts: bool
    executed_version: str
    sandbox_id: str
    is_function_error: bool = False


class Settle(NamedTuple):
    """One settlement, as the shard needs it; which fields mean something depends on the action."""

    # In its batch.
    position: int
    sequence: int
    fence: int
    action: Action
    attempt: Attempt | None = None
    condition: int = 0
    destination_arn: str = ""
    delay_ms: int = 0
    cause: Cause = Cause.UNSTARTED
    error_type: str = ""
    error_message: str = ""
    payload: bytes = b""
    # A HandoverPart.
    part: int = 0


@dataclass(slots=True)
class EnqueueResult:
    """What became of one batch; `refusal` means that nothing was stored."""

    refusal: EvenflowError | None = None
    event_refusals: list[tuple[int, EvenflowError]] = field(default_factory=list)
    duplicate_indexes: list[int] = field(default_factory=list)
    depth: int = 0


@dataclass(slots=True)
class EnqueueBatch:
    """Store these events; `reply` is called on the loop after the commit."""

    entries: list[Entry]
    payload_bytes: int
    arrived_ns: int
    reply: Callable[[EnqueueResult], None]
    event_refusals: list[tuple[int, EvenflowError]] = field(default_factory=list)


@dataclass(slots=True)
class SettleResult:
    """What became of one batch of settlements."""

    refusal: EvenflowError | None = None
    refusals: list[tuple[int, EvenflowError]] = field(default_factory=list)


@dataclass(slots=True)
class SettleBatch:
    """Settle these leases; `reply` is called on the loop after the commit."""

    settles: list[Settle]
    payload_bytes: int
    arrived_ns: int
    reply: Callable[[SettleResult], None]


@dataclass(slots=True)
class Wake:
    """Something changed at the pollers: look at the lanes of these functions again (None: at all of them)."""

    keys: tuple[tuple[str, str], ...] | None = ()


@dataclass(slots=True)
class FreeLeases:
    """Give back leases: those of a session that is gone (each counts as a delivery), or the named ones that never
    left the node (they do not count)."""

    session: "PollerSession"
    undelivered: list[tuple[int, int]] | None = None


@dataclass(slots=True)
class Call:
    """Run this on the shard's thread, in a transaction of its own when `writes`; `reply` gets result or error."""

    run: Callable[["Shard"], Any]
    reply: Callable[[Any, BaseException | None], None]
    writes: bool = False


Command = EnqueueBatch | SettleBatch | Wake | FreeLeases | Call
# What the loop is to do after a drain: call the first with the rest.
Completion = tuple[Callable[..., None], tuple[Any, ...]]
