"""What a change writes beside its resources: the ledger's rows, owners of event sources, incarnations that are over."""

from services.control.database import Statement, StoredOwner, StoredShare

# Incarnations of one node that are remembered as dead.
MAX_DEAD_INCARNATIONS = 64


def put_share(share: StoredShare) -> Statement:
    """Write a row of the ledger."""
    return (
        "INSERT OR REPLACE INTO shares (limit_key, node_id, incarnation, target, bound) VALUES (?, ?, ?, ?, ?)",
        (share.limit_key, share.node_id, share.incarnation, share.target, share.bound),
    )


def delete_share(limit_key: str, node_id: str) -> Statement:
    """Drop a row of the ledger."""
    return "DELETE FROM shares WHERE limit_key = ? AND node_id = ?", (limit_key, node_id)


def put_owner(owner: StoredOwner) -> Statement:
    """Write who owns an event source."""
    return (
        "INSERT OR REPLACE INTO source_owners (source_id, epoch, node_id, incarnation) VALUES (?, ?, ?, ?)",
        (owner.source_id, owner.epoch, owner.node_id, owner.incarnation),
    )


def delete_owner(source_id: str) -> Statement:
    """Drop the owner of an event source that is gone."""
    return "DELETE FROM source_owners WHERE source_id = ?", (source_id,)


def put_progress(source_id: str, done_until_ms: int) -> Statement:
    """Write until when the fires of a schedule are done."""
    return "INSERT OR REPLACE INTO source_progress (source_id, done_until_ms) VALUES (?, ?)", (source_id, done_until_ms)


def delete_progress(source_id: str) -> Statement:
    """Drop it: the source is gone."""
    return "DELETE FROM source_progress WHERE source_id = ?", (source_id,)


def bury(node_id: str, incarnation: str) -> list[Statement]:
    """Remember an incarnation as dead, free its shares, forget the oldest dead beyond the bound."""
    return [
        ("INSERT INTO dead_incarnations (node_id, incarnation) VALUES (?, ?)", (node_id, incarnation)),
        (
            "DELETE FROM dead_incarnations WHERE node_id = ? AND number NOT IN "
            "(SELECT number FROM dead_incarnations WHERE node_id = ? ORDER BY number DESC LIMIT ?)",
            (node_id, node_id, MAX_DEAD_INCARNATIONS),
        ),
        ("DELETE FROM shares WHERE node_id = ?", (node_id,)),
    ]


def forget_dead(node_id: str) -> Statement:
    """Drop what is remembered of a node that is forgotten altogether."""
    return "DELETE FROM dead_incarnations WHERE node_id = ?", (node_id,)
