"""Lease responses as the bytes that go out: the stored event is passed through, never parsed on its way to a poller.

The fields are those of `Lease` and `Receipt` in protos/evenflow/queue/v1/queue.proto; tests read what is made here with
the generated classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from evenflow.queue.v1 import queue_pb2

from services.queue.domain import FRESH, Entry

# A LeaseResponse holds at most so much.
MAX_RESPONSE_LEASES = 500
MAX_RESPONSE_BYTES = 3_500_000
# Tags: number of the field << 3 | wire type.
_LEASES = b"\x0a"
_RECEIPT = b"\x0a"
_EVENT = b"\x12"
_SHARD_ID = b"\x08"
_SEQUENCE = b"\x10"
_FENCE = b"\x19"
_TIMEOUT = b"\x30"
_EXPIRED = b"\x38\x01"
_ENQUEUED_AT = b"\x50"
_LOW_BITS = 14
_LOW_MASK = (1 << _LOW_BITS) - 1


def varint(number: int) -> bytes:
    """A number that is not negative, as protobuf writes it."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


# The short ones, and the first two bytes of longer ones: neighbours in a lane share the rest.
_SHORT = tuple(varint(number) for number in range(1 << 11))
_LOW = tuple(bytes((low & 0x7F | 0x80, low >> 7 | 0x80)) for low in range(1 << _LOW_BITS))


@dataclass(frozen=True, slots=True)
class LeaseBatch:
    """Leases of one shard, ready to be sent. `receipts`: (sequence, fence) of each."""

    shard_id: int
    parts: list[bytes]
    receipts: list[tuple[int, int]]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OutgoingLeases:
    """One LeaseResponse as bytes."""

    payload: bytes
    leases: int


def batches(
    shard_id: int, visibility_timeout_ms: int, now_ms: int, entries: Iterable[tuple[Entry, bytes]]
) -> list[LeaseBatch]:
    """Entries with their events' bytes, as batches that each fit one LeaseResponse."""
    shard = _SHARD_ID + varint(shard_id) if shard_id else b""
    timeout = _TIMEOUT + varint(visibility_timeout_ms)
    found: list[LeaseBatch] = []
    parts: list[bytes] = []
    receipts: list[tuple[int, int]] = []
    size = 0
    high, high_bytes = -1, b""
    enqueued_at_ms, tail = -1, b""
    for entry, event in entries:
        sequence = entry.sequence
        if sequence >> _LOW_BITS != high:
            high = sequence >> _LOW_BITS
            high_bytes = varint(high)
        receipt = (
            shard + _SEQUENCE + _LOW[sequence & _LOW_MASK] + high_bytes + _FENCE + entry.fence.to_bytes(8, "little")
        )
        if entry.enqueued_at_ms != enqueued_at_ms:
            enqueued_at_ms = entry.enqueued_at_ms
            tail = timeout + _ENQUEUED_AT + varint(enqueued_at_ms)
        event_bytes = len(event)
        length = _SHORT[event_bytes] if event_bytes < len(_SHORT) else varint(event_bytes)
        body = _RECEIPT + _SHORT[len(receipt)] + receipt + _EVENT + length + event + tail
        if entry.progress is not None or entry.handover is not None:
            body += _history(entry)
        if entry.expires_at_ms <= now_ms:
            body += _EXPIRED
        body_bytes = len(body)
        part = _LEASES + (_SHORT[body_bytes] if body_bytes < len(_SHORT) else varint(body_bytes)) + body
        if parts and (size + len(part) > MAX_RESPONSE_BYTES or len(parts) >= MAX_RESPONSE_LEASES):
            found.append(LeaseBatch(shard_id, parts, receipts, size))
            parts, receipts, size = [], [], 0
        parts.append(part)
        receipts.append((sequence, entry.fence))
        size += len(part)
    if parts:
        found.append(LeaseBatch(shard_id, parts, receipts, size))
    return found


def _history(entry: Entry) -> bytes:
    """What has happened to an event before; most have none."""
    progress = entry.progress or FRESH
    lease = queue_pb2.Lease(
        function_errors=progress.function_errors,
        throttles=progress.throttles,
        deliveries=progress.deliveries,
        attempts=progress.attempts,
    )
    if entry.handover is not None:
        lease.handover.MergeFromString(entry.handover)
    return lease.SerializeToString()
