"""What a settlement costs in Python: CPU time of the planning alone, and of whole drains with their SQL.

`python -m loadtest.settle_bench`: one shard without gRPC, all events leased, then acknowledged. CPU time, so that
others on the machine disturb little; the smallest of the repeats counts.
"""

import argparse
import gc
import json
import shutil
import tempfile
import time
from pathlib import Path

from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.domain import Action, Attempt, EnqueueBatch, Entry, Settle, SettleBatch, Wake
from services.queue.identity import Manifest, open_verified
from services.queue.lane_counts import LaneChanges
from services.queue.sessions import Sessions
from services.queue.settings import QueueSettings
from services.queue.settlement import Settlement
from services.queue.shard import Shard
from services.shared import ids
from services.shared.clock import SystemClock

BATCH = 1_000
DRAIN_BATCHES = 4
AGE_MS = 3_600_000


class Ready:
    """A shard whose events are all leased."""

    def __init__(self, folder: Path, events: int) -> None:
        settings = QueueSettings(
            node_id="queue-0", data_dir=str(folder), run_dir=str(folder), token_file="", visibility_timeout_ms=3_600_000
        )
        sessions = Sessions()
        database = open_verified(folder, 0, Manifest(folder), settings.cache_bytes)
        self.shard = Shard(0, database, settings, SystemClock(), sessions, 1)
        self.leases: list[queue_pb2.Lease] = []
        session, _ = sessions.attach("poller-0", "a", lambda response: self.leases.extend(response.leases))  # type: ignore[attr-defined]
        self.lease_cpu_s = 0.0
        for _ in range(events // BATCH):
            self.drain(EnqueueBatch([fresh_entry(n) for n in range(BATCH)], 0, 0, lambda _result: None))
            session.add_credit(BATCH, 1 << 30)
            started = time.process_time()
            self.drain(Wake(None))
            self.lease_cpu_s += time.process_time() - started

    def drain(self, *commands: EnqueueBatch | SettleBatch | Wake) -> None:
        """Apply, and hand the leases over."""
        completions, _ = self.shard.drain(list(commands))
        for function, arguments in completions:
            function(*arguments)

    def acks(self) -> list[SettleBatch]:
        """All leases acknowledged."""
        attempt = Attempt(1, 1_000, True, "$LATEST", "runtime-0/1")
        settles = [
            Settle(i % BATCH, x.receipt.sequence, x.receipt.fence, Action.ACK, attempt, condition=1)
            for i, x in enumerate(self.leases)
        ]
        return [
            SettleBatch(settles[at : at + BATCH], 0, 0, lambda _result: None) for at in range(0, len(settles), BATCH)
        ]


def fresh_entry(index: int) -> Entry:
    """One event of a small payload."""
    now_ms = time.time_ns() // 1_000_000
    event = event_pb2.Event(
        tenant_id="t",
        function_name="f",
        qualifier="$LATEST",
        request_id=ids.mint(now_ms, 0),
        payload=b"{}",
        accepted_at_ms=now_ms,
        expires_at_ms=now_ms + AGE_MS,
    )
    stored = event.SerializeToString()
    return Entry(index, event.request_id, "t", "f", "$LATEST", stored, now_ms, event.expires_at_ms, "", "", b"")


def run(events: int, repeats: int) -> dict[str, float]:
    """Nanoseconds of CPU time a settlement: `add` alone, the whole `drain` with its SQL; and a lease."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    try:
        ready = Ready(folder, events)
        batches = ready.acks()
        gc.collect()
        gc.freeze()
        gc.disable()
        planning: list[float] = []
        for _ in range(repeats):
            settlement = Settlement(ready.shard, LaneChanges())
            started = time.process_time()
            settlement.add(batches)
            planning.append(time.process_time() - started)
            settlement.rolled_back()
            del settlement
        started = time.process_time()
        for at in range(0, len(batches), DRAIN_BATCHES):
            ready.drain(*batches[at : at + DRAIN_BATCHES])
        drained = time.process_time() - started
        assert ready.shard.depth == 0, "not every ack was taken"
        ready.shard.database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    scale = 1e9 / events
    return {"add_ns": min(planning) * scale, "drain_ns": drained * scale, "lease_ns": ready.lease_cpu_s * scale}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    print(json.dumps({name: round(value) for name, value in run(given.events, given.repeats).items()}))
