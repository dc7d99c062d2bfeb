"""Books orders into a file of the bucket "orders", each once, however often its event comes."""

import json
import os
from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent
from evenflow_idempotency import SqlitePersistenceLayer

BUCKET = "orders"
DAY_SECONDS = 86_400
records = SqlitePersistenceLayer(bucket=BUCKET)
# Longer than an event may live: every retry is known.
config = IdempotencyConfig(
    event_key_jmespath="order_id", raise_on_no_idempotency_key=True, expires_after_seconds=DAY_SECONDS
)


@idempotent(config=config, persistence_store=records)
def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Books the order: this line in the book is what must not be there twice."""
    folder = Path(os.environ.get("EVENFLOW_BUCKET_ORDERS") or f"/mnt/{BUCKET}")
    line = json.dumps({"order": event["order_id"], "by": context.aws_request_id}) + "\n"
    with open(folder / "book.jsonl", "a", encoding="utf-8") as book:
        book.write(line)
    return {"booked": event["order_id"], "by": context.aws_request_id}
