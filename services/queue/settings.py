"""Settings of a queue node."""

from dataclasses import dataclass, replace

from services.shared.settings import NodeSettings, setting

_MIB = 1 << 20
# However many shards share a node's memory, each has so much.
MIN_WINDOW_BYTES = 256 << 10
MIN_CACHE_BYTES = 512 << 10
# Together the WALs of a node's shards have so many: a start after a crash reads all of them before it serves.
MAX_WAL_PAGES = 32_000
MIN_WAL_PAGES = 16


@dataclass(frozen=True, slots=True)
class QueueSettings(NodeSettings):
    """Bounds and times of the shards of one node; every bound that does not name the node is per shard."""

    visibility_timeout_ms: int = setting(
        "queue.visibility_timeout_ms", 10_000, minimum=50, maximum=43_200_000, help="Length of a lease unless extended."
    )
    max_deliveries: int = setting(
        "queue.max_deliveries",
        20,
        minimum=1,
        maximum=10_000,
        help="Leases that may end unsettled before an event dies.",
    )
    outcome_keep_seconds: int = setting(
        "queue.outcome_keep_seconds", 86_400, minimum=1, maximum=31_536_000, help="How long a finished event is known."
    )
    outcome_max_rows: int = setting(
        "queue.outcome_max_rows", 1_000_000, minimum=16, maximum=1_000_000_000, help="Most finished events known."
    )
    dead_letter_keep_seconds: int = setting(
        "queue.dead_letter_keep_seconds",
        1_209_600,
        minimum=60,
        maximum=315_360_000,
        help="How long a dead letter is kept; 14 days.",
    )
    redrive_per_second: int = setting(
        "queue.redrive_per_second",
        500,
        minimum=1,
        maximum=100_000,
        help="Most dead letters of a shard that are redriven a second.",
    )
    depth_interval_ms: int = setting(
        "queue.depth_interval_ms", 50, minimum=10, maximum=10_000, help="Shortest time between two depth reports."
    )
    shard_max_events: int = setting(
        "queue.shard_max_events", 50_000_000, minimum=1, maximum=10**12, help="Most unfinished events of a shard."
    )
    shard_max_bytes: int = setting(
        "queue.shard_max_bytes", 64 << 30, minimum=_MIB, maximum=1 << 47, help="Most bytes in use in a shard's file."
    )
    tenant_max_events: int = setting(
        "queue.tenant_max_events", 20_000_000, minimum=1, maximum=10**12, help="Most unfinished events of one tenant."
    )
    window_events: int = setting(
        "queue.window_events", 512, minimum=1, maximum=100_000, help="Events of one lane held in memory."
    )
    window_bytes: int = setting(
        "queue.window_bytes",
        64 * _MIB,
        minimum=_MIB,
        maximum=1 << 40,
        help="Memory for available events, over all shards of the node.",
    )
    cache_bytes: int = setting(
        "queue.cache_bytes",
        64 * _MIB,
        minimum=_MIB,
        maximum=1 << 40,
        help="SQLite's page caches, over all shards of the node.",
    )
    checkpoint_pages: int = setting(
        "queue.checkpoint_pages",
        4_000,
        minimum=MIN_WAL_PAGES,
        maximum=MAX_WAL_PAGES,
        help="Pages in the WAL before a checkpoint; fewer where a node has many shards.",
    )
    reserve_bytes: int = setting(
        "queue.reserve_bytes", 2 * _MIB, minimum=0, maximum=1 << 40, help="Disk space kept back so that settles work."
    )
    pending_max_bytes: int = setting(
        "queue.pending_max_bytes",
        64 * _MIB,
        minimum=_MIB,
        maximum=1 << 40,
        help="Bytes of batches that may wait for a commit; beyond it streams are not read.",
    )
    move_drain_seconds: float = setting(
        "queue.move_drain_seconds",
        30.0,
        minimum=0,
        maximum=900,
        help="How long a shard that moves away lets runs extend their leases; then these run out.",
    )

    def shared_by(self, shards: int) -> "QueueSettings":
        """What one of so many shards, at least one, works with: its part of what the node has."""
        return replace(
            self,
            window_bytes=max(MIN_WINDOW_BYTES, self.window_bytes // shards),
            cache_bytes=max(MIN_CACHE_BYTES, self.cache_bytes // shards),
            checkpoint_pages=max(MIN_WAL_PAGES, min(self.checkpoint_pages, MAX_WAL_PAGES // shards)),
        )
