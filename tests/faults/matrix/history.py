"""What was seen of one cell, from outside the fleet: by the client that sent, by the handlers that ran, and what the
fleet itself says of every event in the end. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sent:
    """One event that the client made. asks: how its runs end, see functions.

    sends: calls that carried it (a token's repeats are the same event). acked: its request id, once the door answered
    that it is durable; b"" while that is not known. refused: the door's last word was a refusal, nothing was stored.
    A send that is neither may have been stored. due_ns: when it was to be sent, wall clock. has_token: it was repeated
    until the door answered for it. failure: why the last send was not accepted, in words; "": it was.
    """

    number: int
    body_hash: bytes
    asks: str
    sends: int = 1
    acked: bytes = b""
    refused: str = ""
    due_ns: int = 0
    has_token: bool = False
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Ran:
    """One run that a handler noted. attempt: 1-based within its sandbox's own knowledge is not known, so runs are told
    apart by their begin. ended_ns 0: it began and never said that it ended. succeeded: it answered without an error."""

    number: int
    request_id: bytes
    body_hash: bytes
    started_ns: int
    ended_ns: int
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """What the fleet says of one event after the drain: its terminal records, of which there has to be one.

    state: succeeded, failed (its destination has the record) or dead (the shard's dead letters have it), or one that is
    no end: available, delayed, leased, handover. deliveries: leases of it that ended without a settlement.
    """

    request_id: bytes
    state: str
    condition: str
    function_errors: int
    deliveries: int
    finished_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything of one cell. destination: how often the destination's function was told of an event, by request id.

    named_lost: events that a tool named as lost when a shard's file was damaged on purpose: said, not silent.
    damaged_shards: shards of such files: the record of an event's end may have gone with them after it had run.
    may_repeat: whether the fault explains repeats.
    stale_settles, stale_accepted: settlements with receipts of leases that were over, and those that were taken.
    """

    sent: Sequence[Sent]
    ran: Sequence[Ran]
    ended: Sequence[Ended]
    max_function_errors: int
    destination: Mapping[bytes, int] = field(default_factory=dict)
    named_lost: frozenset[bytes] = frozenset()
    damaged_shards: frozenset[int] = frozenset()
    stale_settles: int = 0
    stale_accepted: int = 0
    may_repeat: bool = True
