"""Records of a queue on their way through a function: one batch, from its first record until none of it is left."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.policy.lineage import depth_after
from services.policy.sqs_events import encode, event_bytes, event_of
from services.policy.validation import MAX_SYNC_PAYLOAD_BYTES


@dataclass(slots=True)
class Room:
    """Bytes of records that all mappings of a poller hold; past the bound nothing more is received."""

    bound_bytes: int
    held_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether to receive nothing now. Receives under way may go past the bound, by 10 messages each."""
        return self.held_bytes >= self.bound_bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One message as the function gets it. `chain_depth`: invocations in its chain before this one; 0: of no chain."""

    message_id: str
    receipt: str
    encoded: bytes
    chain_depth: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Record":
        """From a record of Lambda's event."""
        header = str(record["attributes"].get("AWSTraceHeader", "")).encode()
        return cls(record["messageId"], record["receiptHandle"], encode(record), depth_after(header))

    @property
    def is_too_large(self) -> bool:
        """Whether no event can hold it."""
        return event_bytes(len(self.encoded), 1) > MAX_SYNC_PAYLOAD_BYTES


@dataclass(slots=True)
class Batch:
    """Records that run together. `expires_ms`: when the first of them becomes visible to others again."""

    expires_ms: float
    records: list[Record] = field(default_factory=list)
    record_bytes: int = 0

    def add(self, record: Record) -> None:
        """One more."""
        self.records.append(record)
        self.record_bytes += len(record.encoded)

    @property
    def is_full(self) -> bool:
        """Whether an event cannot hold all of it."""
        return event_bytes(self.record_bytes, len(self.records)) > MAX_SYNC_PAYLOAD_BYTES

    @property
    def chain_depth(self) -> int:
        """Of the record that has come the longest way."""
        return max(record.chain_depth for record in self.records)

    @property
    def payload(self) -> bytes:
        """The event."""
        return event_of([record.encoded for record in self.records])

    @property
    def ids(self) -> list[str]:
        """Message ids of all its records."""
        return [record.message_id for record in self.records]

    @property
    def receipts(self) -> list[str]:
        """Of all its records."""
        return [record.receipt for record in self.records]

    def split(self) -> list["Batch"]:
        """Parts that one event each can hold, in order; records too large for any are left out."""
        parts: list[Batch] = []
        for record in self.records:
            if record.is_too_large:
                continue
            if not parts or (
                event_bytes(parts[-1].record_bytes + len(record.encoded), len(parts[-1].records) + 1)
                > MAX_SYNC_PAYLOAD_BYTES
            ):
                parts.append(Batch(self.expires_ms))
            parts[-1].add(record)
        return parts
