"""The numbers of a shard: what it counts from its file at the start, and what it tells of itself."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.queue.telemetry import SpanFacts
from services.queue.transitions import Transition

if TYPE_CHECKING:
    from services.queue.shard import Shard

# Lanes whose first event is looked at for the oldest age: enough for a gauge, bounded for a shard of many lanes.
MAX_AGE_LANES = 64


@dataclass(frozen=True, slots=True)
class ShardStats:
    """Numbers of a shard at one moment."""

    depth: int
    leased: int
    delayed: int
    handovers: int
    dead_letters: int
    outcomes: int
    accepted_total: int
    finished_total: int
    oldest_age_ms: int
    file_bytes: int
    takes_events: bool
    is_leaving: bool = False


@dataclass(slots=True)
class DrainReport:
    """What a drain did, for metrics."""

    enqueued: int = 0
    settled: int = 0
    commit_ms: float = 0.0
    spans: list[SpanFacts] = field(default_factory=list)


def moved(shard: "Shard", row: Transition, count: int) -> None:
    """So many events made this transition, durably."""
    shard.event_count += row.events * count
    shard.delayed_count += row.delayed * count
    shard.dead_count += row.dead_letters * count
    shard.handover_count += row.handovers * count
    if row.live < 0:
        shard.finished_total += count


def stats(shard: "Shard") -> ShardStats:
    """The numbers now."""
    return ShardStats(
        depth=shard.depth,
        leased=len(shard.leases),
        delayed=shard.delayed_count,
        handovers=shard.handover_count,
        dead_letters=shard.dead_count,
        outcomes=shard.outcomes.rows,
        accepted_total=shard.accepted_total,
        finished_total=shard.finished_total,
        oldest_age_ms=_oldest_age_ms(shard),
        file_bytes=shard.file_bytes,
        takes_events=shard.refusal() is None and not shard.is_leaving,
        is_leaving=shard.is_leaving,
    )


def _oldest_age_ms(shard: "Shard") -> int:
    oldest = shard.now_ms
    for lane in list(shard.lanes.by_key.values())[:MAX_AGE_LANES]:
        if lane.ready:
            oldest = min(oldest, lane.ready[0].enqueued_at_ms)
    return max(0, shard.now_ms - oldest)
