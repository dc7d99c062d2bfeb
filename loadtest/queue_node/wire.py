"""Requests as bytes: the load generator shares the machine with the node, so it builds no objects an event."""

import os
import time
from collections.abc import Iterable

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids

UNSAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"
TENANT = "default"
AGE_MS = 21_600_000
# Where an id differs from another one of its shard and millisecond.
_RANDOM_BYTES = 7
# Stands where an event's own id goes; no other field holds these bytes.
_PLACEHOLDER = bytes(range(0xE0, 0xF0))
_EVENTS_TAG = b"\x22"
_SETTLEMENTS_TAG = b"\x1a"
_RECEIPT_TAG = b"\x0a"


def field(tag: bytes, value: bytes) -> bytes:
    """A length-delimited field of a message."""
    return tag + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


class EventBatches:
    """Serialized EnqueueRequests of fresh events: one tenant, some functions in turn, payloads of one size."""

    def __init__(self, function_names: Iterable[str], payload_bytes: int, *, tenant_id: str = TENANT) -> None:
        """`payload_bytes`: of each payload, at least 2."""
        self._tenant_id = tenant_id
        self._function_names = tuple(function_names)
        self._payload = b'"' + b"x" * (payload_bytes - 2) + b'"'

    def make(self, batch_id: int, shard_id: int, events: int, *, epoch: int = 1, age_ms: int = AGE_MS) -> bytes:
        """One batch for this shard, accepted now."""
        now_ms = time.time_ns() // 1_000_000
        parts = [self._around_id(name, now_ms, age_ms) for name in self._function_names]
        start = ids.mint(now_ms, shard_id)[: ids.REQUEST_ID_BYTES - _RANDOM_BYTES]
        random_bytes = os.urandom(_RANDOM_BYTES * events)
        request = queue_pb2.EnqueueRequest(batch_id=batch_id, shard_map_epoch=epoch, shard_id=shard_id)
        found = [request.SerializeToString()]
        for index in range(events):
            head, tail = parts[index % len(parts)]
            at = index * _RANDOM_BYTES
            found += (head, start, random_bytes[at : at + _RANDOM_BYTES], tail)
        return b"".join(found)

    def _around_id(self, function_name: str, now_ms: int, age_ms: int) -> tuple[bytes, bytes]:
        event = event_pb2.Event(
            tenant_id=self._tenant_id,
            function_name=function_name,
            qualifier="$LATEST",
            request_id=_PLACEHOLDER,
            payload=self._payload,
            accepted_at_ms=now_ms,
            expires_at_ms=now_ms + age_ms,
            trace=event_pb2.TraceContext(traceparent=UNSAMPLED),
        )
        head, _, tail = field(_EVENTS_TAG, event.SerializeToString()).partition(_PLACEHOLDER)
        return head, tail


class Settlements:
    """Serialized SettleRequests that do the same with every lease."""

    def __init__(self, action: queue_pb2.Settlement) -> None:
        """`action`: a settlement without its receipt."""
        self._rest = action.SerializeToString()

    def make(self, batch_id: int, leases: Iterable[queue_pb2.Lease], *, epoch: int = 1) -> bytes:
        """Settle these leases."""
        request = queue_pb2.SettleRequest(batch_id=batch_id, shard_map_epoch=epoch)
        found = [request.SerializeToString()]
        for lease in leases:
            found.append(field(_SETTLEMENTS_TAG, field(_RECEIPT_TAG, lease.receipt.SerializeToString()) + self._rest))
        return b"".join(found)


def succeeded() -> Settlements:
    """Acknowledge, with the facts of a run that a poller tells."""
    attempt = queue_pb2.AttemptRecord(
        started_at_ms=time.time_ns() // 1_000_000,
        duration_us=1_000,
        status=event_pb2.OUTCOME_STATUS_SUCCEEDED,
        executed_version="$LATEST",
        sandbox_id="runtime-0/1",
    )
    ack = queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS)
    return Settlements(queue_pb2.Settlement(ack=ack, attempt=attempt))


def delayed(delay_ms: int) -> Settlements:
    """Let it come back later."""
    release = queue_pb2.Release(delay_ms=delay_ms, cause=queue_pb2.RELEASE_CAUSE_THROTTLE)
    return Settlements(queue_pb2.Settlement(release=release))
