"""What is written by hand must read as the contract says."""

from evenflow.common.v1.event_pb2 import Event, TraceContext
from evenflow.queue.v1 import queue_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.queue import lease_wire
from services.queue.domain import LANE_SHIFT, Entry, Progress

NOW_MS = 1_790_000_000_000
COUNTERS = st.integers(0, 2**31)


@st.composite
def entries(draw: st.DrawFn) -> tuple[Entry, bytes]:
    """Any entry that a shard may lease, with the bytes of its event."""
    event = Event(
        tenant_id=draw(st.text(max_size=8)),
        function_name="f",
        request_id=draw(st.binary(min_size=16, max_size=16)),
        payload=draw(st.binary(max_size=3_000)),
        trace=TraceContext(traceparent="00-x-01"),
        expires_at_ms=draw(st.sampled_from([0, NOW_MS, NOW_MS + 1])),
    )
    stored = event.SerializeToString()
    entry = Entry(0, event.request_id, "t", "f", "", stored, 0, event.expires_at_ms, "", "", b"")
    entry.sequence = draw(st.integers(1, 2**21 - 1)) << LANE_SHIFT | draw(st.integers(0, 2**LANE_SHIFT - 1))
    entry.fence = draw(st.integers(0, 2**64 - 1))
    entry.enqueued_at_ms = draw(st.integers(0, NOW_MS * 2))
    if draw(st.booleans()):
        entry.progress = Progress(draw(COUNTERS), draw(COUNTERS), draw(COUNTERS), draw(COUNTERS))
    if draw(st.booleans()):
        entry.handover = queue_pb2.Handover(destination_arn="arn:x", delivery_failures=3).SerializeToString()
    return entry, stored


@given(st.lists(entries(), max_size=12), st.integers(0, 65_535), st.integers(50, 43_200_000))
def test_generated_code_reads_what_was_written(found: list[tuple[Entry, bytes]], shard_id: int, timeout: int) -> None:
    """Every field of every lease arrives, and nothing else."""
    batches = lease_wire.batches(shard_id, timeout, NOW_MS, found)
    leases = [lease for batch in batches for lease in queue_pb2.LeaseResponse.FromString(b"".join(batch.parts)).leases]
    assert [receipt for batch in batches for receipt in batch.receipts] == [(e.sequence, e.fence) for e, _ in found]
    assert len(leases) == len(found)
    for lease, (entry, stored) in zip(leases, found, strict=True):
        progress = entry.progress or Progress()
        expected = queue_pb2.Lease(
            receipt=queue_pb2.Receipt(shard_id=shard_id, sequence=entry.sequence, fence=entry.fence),
            event=Event.FromString(stored),
            function_errors=progress.function_errors,
            throttles=progress.throttles,
            deliveries=progress.deliveries,
            attempts=progress.attempts,
            visibility_timeout_ms=timeout,
            expired=entry.expires_at_ms <= NOW_MS,
            enqueued_at_ms=entry.enqueued_at_ms,
        )
        if entry.handover is not None:
            expected.handover.MergeFromString(entry.handover)
        assert lease == expected


def _entry(sequence: int, payload_bytes: int) -> tuple[Entry, bytes]:
    stored = Event(request_id=bytes(16), payload=bytes(payload_bytes)).SerializeToString()
    entry = Entry(0, bytes(16), "t", "f", "", stored, 0, NOW_MS + 1, "", "", b"")
    entry.sequence, entry.fence = sequence, 1
    return entry, stored


def test_a_batch_keeps_the_bounds_of_a_response() -> None:
    """500 leases, or 3.5 MB, or one larger lease."""
    many = lease_wire.batches(0, 1_000, NOW_MS, [_entry(n, 1) for n in range(1, 1_202)])
    assert [len(batch.parts) for batch in many] == [500, 500, 201]
    large = lease_wire.batches(0, 1_000, NOW_MS, [_entry(n, 1_000_000) for n in range(1, 8)])
    assert [len(batch.parts) for batch in large] == [3, 3, 1]
    assert all(batch.size_bytes <= lease_wire.MAX_RESPONSE_BYTES for batch in large)
    assert [len(b.parts) for b in lease_wire.batches(0, 1_000, NOW_MS, [_entry(1, 4_000_000), _entry(2, 1)])] == [1, 1]
