"""The record that a destination gets, version 1.0, exactly as AWS Lambda writes it. Pure.

Payloads are JSON already and are spliced in as bytes, never parsed: they may be large.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

VERSION = "1.0"
FUNCTION_ERROR = "Unhandled"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY = b"null"


@dataclass(frozen=True, slots=True)
class Response:
    """What the last run answered. `payload` is JSON; empty counts as null."""

    payload: bytes
    executed_version: str
    is_function_error: bool


def iso_ms(wall_ms: int) -> str:
    """A time as AWS writes it: 2019-11-14T18:16:05.568Z."""
    moment = _EPOCH + timedelta(milliseconds=wall_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ms % 1_000:03d}Z"


def destination_record(
    *,
    timestamp_ms: int,
    request_id: str,
    function_arn: str,
    condition: str,
    invoke_count: int,
    request_payload: bytes,
    response: Response | None,
) -> bytes:
    """The record as UTF-8 JSON; without response fields where nothing ran.

    `function_arn` is qualified, "$LATEST" too. `condition` is one of AWS's names. `invoke_count`: runs so far.
    """
    context = {
        "requestId": request_id,
        "functionArn": function_arn,
        "condition": condition,
        "approximateInvokeCount": invoke_count,
    }
    parts = [
        b'{"version":"' + VERSION.encode() + b'","timestamp":"' + iso_ms(timestamp_ms).encode() + b'"',
        b',"requestContext":' + _json(context),
        b',"requestPayload":' + (request_payload or _EMPTY),
    ]
    if response is not None:
        answer: dict[str, object] = {"statusCode": 200, "executedVersion": response.executed_version}
        if response.is_function_error:
            answer["functionError"] = FUNCTION_ERROR
        parts.append(b',"responseContext":' + _json(answer))
        parts.append(b',"responsePayload":' + (response.payload or _EMPTY))
    parts.append(b"}")
    return b"".join(parts)


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
