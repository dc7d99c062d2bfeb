"""A shard's events as lines of JSON: live, delayed and dead ones with their payloads, from a file in any condition."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from evenflow.common.v1.event_pb2 import Condition, Event
from evenflow.queue.v1 import queue_pb2
from google.protobuf.message import DecodeError

from services.queue.domain import DUE_SHIFT, LANE_SHIFT, PROGRESS_COLUMNS
from services.queue.salvage import EVENT_PLACES, Salvage
from services.shared import ids

STATES = {"events": "available", "delayed": "delayed", "dead_letters": "dead"}
_PROGRESS = PROGRESS_COLUMNS.split(", ")


def lines(salvage: Salvage) -> Iterator[str]:
    """One JSON object an event; an event whose lease was running is available, as nothing is written at lease."""
    for table, (_, event_place) in EVENT_PLACES.items():
        for row in salvage.rows(table):
            yield json.dumps(_described(table, row, Event.FromString(row[event_place])), ensure_ascii=False)


def _described(table: str, row: list[Any], event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {
        "state": STATES[table],
        "request_id": ids.to_text(event.request_id),
        "tenant_id": event.tenant_id,
        "function_name": event.function_name,
        "qualifier": event.qualifier,
        "accepted_at_ms": event.accepted_at_ms,
        "expires_at_ms": event.expires_at_ms,
        "lane_id": row[0] >> LANE_SHIFT if table == "events" else row[1],
    }
    first = EVENT_PLACES[table][0] + 4
    found.update(zip(_PROGRESS, row[first : first + len(_PROGRESS)], strict=True))
    if table == "delayed":
        found["available_at_ms"] = row[0] >> DUE_SHIFT
    if table == "dead_letters":
        found["dead_at_ms"] = row[17]
        found["condition"] = _condition(row[18])
        found.update(_bytes("response_payload", row[19]))
    elif (stored := row[EVENT_PLACES[table][1] - 1]) is not None:
        found["state"] = "handover"
        found.update(_handover(stored))
    if event.HasField("lineage"):
        found["chain_depth"] = event.lineage.chain_depth
    if event.trace.traceparent:
        found["traceparent"] = event.trace.traceparent
    found.update(_bytes("payload", event.payload))
    return found


def _condition(number: Any) -> str:
    try:
        return Condition.Name(number).removeprefix("CONDITION_").lower()
    except ValueError:
        return str(number)


def _handover(stored: bytes) -> dict[str, Any]:
    try:
        handover = queue_pb2.Handover.FromString(stored)
    except DecodeError:
        return {"destination_arn": ""}
    found: dict[str, Any] = {"destination_arn": handover.destination_arn}
    if handover.dead_letter_arn:
        found["dead_letter_arn"] = handover.dead_letter_arn
    return {**found, "delivery_failures": handover.delivery_failures}


def _bytes(name: str, value: bytes) -> dict[str, str]:
    """As text, or under another name in base64 where it is none."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode()}
