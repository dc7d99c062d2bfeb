"""SQS mappings: the event that a batch of records becomes, and which of them the function's answer says failed. Pure.

Shapes and rules are those of the Lambda developer guide, "Using Lambda with Amazon SQS".
"""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

EVENT_SOURCE = "aws:sqs"
DEFAULT_BATCH_SIZE = 10
# AWS's: batches at once when a mapping begins, and how many more each minute while there is work.
INITIAL_BATCHES = 5.0
GROWTH_PER_MINUTE = 300.0
_EVENT_HEAD, _EVENT_TAIL, _SEPARATOR = b'{"Records":[', b"]}", b","
EVENT_FRAME_BYTES = len(_EVENT_HEAD) + len(_EVENT_TAIL)
RECORD_FRAME_BYTES = len(_SEPARATOR)


def record_of(message: Mapping[str, Any], queue_arn: str, region: str) -> dict[str, Any]:
    """One record of Lambda's event, from a message as ReceiveMessage answers it."""
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message.get("Body", ""),
        "attributes": dict(message.get("Attributes") or {}),
        "messageAttributes": {
            name: _attribute(value) for name, value in (message.get("MessageAttributes") or {}).items()
        },
        "md5OfBody": message.get("MD5OfBody", ""),
        "eventSource": EVENT_SOURCE,
        "eventSourceARN": queue_arn,
        "awsRegion": region,
    }
    if message.get("MD5OfMessageAttributes"):
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as it stands in the event, JSON in UTF-8."""
    # Not escaped beyond need: the 6 MiB are counted in these bytes.
    text = json.dumps(record, separators=(",", ":"), ensure_ascii=False)
    # A body may hold half a surrogate pair only where a server let it in; as an escape it is JSON still.
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(record, separators=(",", ":")).encode()


def event_of(records: Sequence[bytes]) -> bytes:
    """The event of encoded records."""
    return b"".join((_EVENT_HEAD, _SEPARATOR.join(records), _EVENT_TAIL))


def event_bytes(record_bytes: int, records: int) -> int:
    """At most so many bytes has the event of `records` records that have `record_bytes` together."""
    return EVENT_FRAME_BYTES + record_bytes + records * RECORD_FRAME_BYTES


def failed_ids(response: bytes, batch: Collection[str]) -> Collection[str]:
    """Which of a batch's message ids failed, by the answer of a function with ReportBatchItemFailures.

    None failed: null, {}, a null or an empty list of failures. All failed: no such JSON, an entry without a text as
    identifier, an identifier that is empty or not of the batch.
    """
    try:
        answer = json.loads(response) if response else None
    except (ValueError, RecursionError):
        return batch
    if answer is None:
        return ()
    if not isinstance(answer, dict):
        return batch
    failures = answer.get("batchItemFailures")
    if failures is None:
        return ()
    if not isinstance(failures, list):
        return batch
    known, failed = set(batch), set()
    for failure in failures:
        found = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(found, str) or found not in known:
            return batch
        failed.add(found)
    return failed


class Growth:
    """How many batches a mapping may run at once: five to begin with, 300 more a minute while all of them are busy.

    A throttle halves it, an empty queue begins anew; `bound` is the mapping's maximum concurrency, or the poller's.
    """

    def __init__(self, bound: int, now_ms: float) -> None:
        self._bound = float(bound)
        self._allowed = min(INITIAL_BATCHES, self._bound)
        self._seen_ms = now_ms

    @property
    def batches(self) -> int:
        """Batches at once, at least 1."""
        return max(1, int(self._allowed))

    def pass_time(self, now_ms: float, *, is_busy: bool) -> None:
        """Call it often; `is_busy`: every batch that is allowed runs."""
        if is_busy:
            grown = self._allowed + (now_ms - self._seen_ms) * GROWTH_PER_MINUTE / 60_000
            self._allowed = min(self._bound, grown)
        self._seen_ms = now_ms

    def throttled(self) -> None:
        """The function runs as often at once as it may."""
        self._allowed = max(1.0, self._allowed / 2)

    def emptied(self) -> None:
        """The queue has nothing more."""
        self._allowed = min(self._allowed, INITIAL_BATCHES)


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if value.get("StringValue") is not None:
        found["stringValue"] = value["StringValue"]
    if value.get("BinaryValue") is not None:
        found["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return {**found, "stringListValues": [], "binaryListValues": [], "dataType": value.get("DataType", "String")}
