"""The event of a schedule's fire, and the token that makes it one event whoever fires it. Pure.

The shape is that of EventBridge's "Scheduled Event" (EventBridge user guide, "Events from AWS services").
"""

import hashlib
import json
import uuid
from datetime import UTC, datetime

DEFAULT_CATCH_UP_SECONDS = 60


def fire_token(source_id: str, due_ms: int) -> str:
    """The client token of a fire: 64 characters, the same for the same schedule and due time."""
    return hashlib.sha256(f"{source_id}\0{due_ms}".encode()).hexdigest()


def scheduled_event(*, source_id: str, name: str, region: str, account_id: str, due_ms: int) -> bytes:
    """The event of a fire as JSON; all of it follows from the schedule and the due time."""
    due = datetime.fromtimestamp(due_ms / 1_000, UTC)
    event = {
        "version": "0",
        "id": str(uuid.UUID(hex=fire_token(source_id, due_ms)[:32], version=4)),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account_id,
        "time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{account_id}:rule/{name}"],
        "detail": {},
    }
    return json.dumps(event, separators=(",", ":")).encode()
