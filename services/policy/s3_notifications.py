"""Notifications that S3-compatible servers post: which objects they tell of, and which sources want them. Pure.

The document is S3's event message (version 2.x), as MinIO, RustFS and versitygw send it, too: some of them write
eventName with its "s3:" and eventSource with their own name, which is made S3's for the function.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

# S3 sends one record a document; others may gather some.
MAX_RECORDS = 1_000
TEST_EVENT = "s3:TestEvent"
_PREFIX = "s3:"


@dataclass(frozen=True, slots=True)
class Notice:
    """One object that something happened to. `event_name`: with "s3:"; `key`: decoded; `payload`: the event's JSON.

    `identity`: what tells this happening from every other one of the same key.
    """

    event_name: str
    bucket: str
    key: str
    identity: str
    payload: bytes

    def client_token(self, source_id: str) -> str:
        """The token of its event for one source: 64 characters, the same however often it is posted."""
        parts = (source_id, self.event_name, self.bucket, self.key, self.identity)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def read_document(body: bytes) -> list[Notice]:
    """The notices of a posted document; none for the test event and for an empty body. ValueError with a sentence."""
    if not body.strip():
        return []
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is no JSON document") from None
    if not isinstance(document, dict):
        raise ValueError("the body is no S3 event document: an object with Records is expected")
    if document.get("Event") == TEST_EVENT:
        return []
    records = document.get("Records")
    if not isinstance(records, list) or not records:
        raise ValueError("the document has no Records")
    if len(records) > MAX_RECORDS:
        raise ValueError(f"a document has at most {MAX_RECORDS:,} records, not {len(records):,}")
    notices = (_notice(record, f"Records[{index}]") for index, record in enumerate(records))
    return [notice for notice in notices if notice is not None]


def wants(events: Iterable[str], event_name: str) -> bool:
    """Whether these event names of a source, which may end in *, include this one."""
    return any(
        event == event_name or (event.endswith("*") and event_name.startswith(event.removesuffix("*")))
        for event in events
    )


def _notice(record: Any, where: str) -> Notice | None:
    if not isinstance(record, dict):
        raise ValueError(f"{where} is no object")
    name = _text(record.get("eventName"), f"{where}.eventName")
    event_name = name if name.startswith(_PREFIX) else _PREFIX + name
    if event_name == TEST_EVENT:
        return None
    bucket = _text(_inner(record, "bucket", where).get("name"), f"{where}.s3.bucket.name")
    thing = _inner(record, "object", where)
    key = _text(thing.get("key"), f"{where}.s3.object.key")
    told = [str(thing.get(part) or "") for part in ("sequencer", "versionId", "eTag")]
    # A server without sequencers tells two puts of the same bytes apart by their time alone.
    identity = "\0".join(told if told[0] else [*told, str(record.get("eventTime") or "")])
    made = {**record, "eventSource": "aws:s3", "eventName": event_name.removeprefix(_PREFIX)}
    payload = json.dumps({"Records": [made]}, separators=(",", ":")).encode()
    return Notice(event_name, bucket, unquote_plus(key), identity, payload)


def _inner(record: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    s3 = record.get("s3")
    found = s3.get(name) if isinstance(s3, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"{where}.s3.{name} is missing")
    return found


def _text(found: Any, where: str) -> str:
    if not isinstance(found, str) or not found:
        raise ValueError(f"{where} must be a text")
    return found
