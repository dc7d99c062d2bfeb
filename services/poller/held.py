"""A lease that this poller holds, from its arrival to the confirmation of its settle."""

import enum
from typing import TYPE_CHECKING

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2
from opentelemetry.trace import Span

from services.poller.functions import Version

if TYPE_CHECKING:
    from services.poller.delivery_round import DeliveryRound
    from services.poller.queue_node import QueueNode

# What a queue node counts for a lease beyond its event.
LEASE_OVERHEAD_BYTES = 64


class Stage(enum.IntEnum):
    """Where a held lease stands."""

    # Waits for a host with room (or for control to say what its function is).
    PENDING = 1
    # At a host.
    RUNNING = 2
    # Its result is on its way to a destination, or waits to be.
    DELIVERING = 3
    # Its settlement is on its way to the shard.
    SETTLING = 4
    # Settled, or lost: nothing may happen any more.
    OVER = 5


class Held:
    """One lease. Times end in `_ms` (monotonic) or `_ns` (wall)."""

    __slots__ = (
        "attempt",
        "avoided",
        "delivery_trace",
        "event",
        "failures",
        "function_errors",
        "handover",
        "host_id",
        "invocation_id",
        "is_expired",
        "key",
        "node",
        "placings",
        "qualifier",
        "receipt",
        "received_ms",
        "received_ns",
        "renewed_ms",
        "round",
        "running_since_ms",
        "settle_since_ms",
        "settlement",
        "settles",
        "size_bytes",
        "span",
        "stage",
        "throttles",
        "trace",
        "version",
        "visibility_ms",
        "was_resent",
    )

    def __init__(self, lease: queue_pb2.Lease, node: "QueueNode", now_ms: float, now_ns: int) -> None:
        event = lease.event
        self.node = node
        self.receipt = lease.receipt
        self.event: event_pb2.Event = event
        self.key = (event.tenant_id, event.function_name)
        self.qualifier = event.qualifier
        # What runs, or was to run; None while that is not known.
        self.version: Version | None = None
        self.attempt = lease.attempts + 1
        self.function_errors = lease.function_errors
        self.throttles = lease.throttles
        self.is_expired = lease.expired
        self.handover: queue_pb2.Handover | None = lease.handover if lease.HasField("handover") else None
        # The delivery of its handover that is under way.
        self.round: DeliveryRound | None = None
        self.failures = self.handover.delivery_failures if self.handover is not None else 0
        self.visibility_ms = lease.visibility_timeout_ms
        self.size_bytes = event.ByteSize() + LEASE_OVERHEAD_BYTES
        self.stage = Stage.PENDING
        self.received_ms = self.renewed_ms = now_ms
        self.received_ns = now_ns
        self.running_since_ms = 0.0
        self.settle_since_ms = 0.0
        self.invocation_id = 0
        self.placings = 0
        # Where it was placed last, and which hosts refused it.
        self.host_id = ""
        self.avoided: tuple[str, ...] = ()
        self.settlement: queue_pb2.Settlement | None = None
        # Whether the settlement ends the lease; a handover keeps it.
        self.settles = True
        self.was_resent = False
        self.span: Span | None = None
        # The context that the run, and then the delivery, are children of.
        self.trace: event_pb2.TraceContext = event.trace
        self.delivery_trace: event_pb2.TraceContext | None = None

    @property
    def runs_so_far(self) -> int:
        """Settled runs, this one not included."""
        return self.attempt - 1
