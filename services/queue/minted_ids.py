"""Up to which minted id a shard has to look for repeats when it starts.

A minted id begins with its time, so an id above the highest one seen was never here (services/queue/intake.py). After a
start nobody knows the highest one. It is taken to be a little ahead of the clock, and never below one that is stored:
a frontend's clock may be ahead of the node's, and the node's may have been set back.
"""

from services.queue.database import Database

# Ids minted by a frontend whose clock is ahead by more than this are looked for in the file.
START_SKEW_MS = 60_000
# Derived ids are random: so few of them look as if they were minted in this stretch that to pass over them is cheap.
LOOK_AHEAD_MS = 366 * 86_400_000
_LATEST = (
    "SELECT request_id FROM {table} WHERE request_id > ? AND request_id < ? "
    "AND substr(request_id, 7, 1) >= x'70' AND substr(request_id, 7, 1) < x'80' ORDER BY request_id DESC LIMIT 1"
)


def highest_at_start(database: Database, bucket_ids: list[int], now_ms: int) -> bytes:
    """The id above which no stored event is. `bucket_ids`: of the outcomes."""
    highest = (now_ms + START_SKEW_MS).to_bytes(6, "big") + b"\xff" * 10
    end = (now_ms + LOOK_AHEAD_MS).to_bytes(6, "big") + b"\xff" * 10
    tables = ["events", "delayed", "dead_letters", *(f"outcomes_{bucket_id}" for bucket_id in bucket_ids)]
    for table in tables:
        highest = max(highest, database.value(_LATEST.format(table=table), (highest, end)) or b"")
    return highest
