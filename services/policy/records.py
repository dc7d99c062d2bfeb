"""The record that a destination gets, version 1.0, exactly as AWS Lambda writes it. Pure.

Payloads are JSON already and are spliced in as bytes, never parsed: they may be large.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

VERSION = "1.0"
FUNCTION_ERROR = "Unhandled"
# The source of a record's event at EventBridge.
EVENT_SOURCE = "lambda"
OBJECT_PREFIX = "aws/lambda/async"
MAX_ERROR_MESSAGE_BYTES = 1_024
# All that XML 1.0 cannot hold; JSON has the first ones in no place but strings, and there escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY = b"null"


@dataclass(frozen=True, slots=True)
class Response:
    """What the last run answered. `payload` is JSON; empty counts as null, None is left out."""

    payload: bytes | None
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
    request_payload: bytes | None,
    response: Response | None,
) -> bytes:
    """The record as UTF-8 JSON; without response fields where nothing ran.

    `function_arn` is qualified, "$LATEST" too. `condition` is one of AWS's names. `invoke_count`: runs so far. A
    payload of None is left out.
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
    ]
    if request_payload is not None:
        parts.append(b',"requestPayload":' + (request_payload or _EMPTY))
    if response is not None:
        answer: dict[str, object] = {"statusCode": 200, "executedVersion": response.executed_version}
        if response.is_function_error:
            answer["functionError"] = FUNCTION_ERROR
        parts.append(b',"responseContext":' + _json(answer))
        if response.payload is not None:
            parts.append(b',"responsePayload":' + (response.payload or _EMPTY))
    parts.append(b"}")
    return b"".join(parts)


def object_key(function_name: str, wall_ms: int, unique: str) -> str:
    """Where a bucket gets a record: aws/lambda/async/NAME/2019/11/14/2019-11-14T18.16.05-UUID."""
    moment = _EPOCH + timedelta(milliseconds=wall_ms)
    return f"{OBJECT_PREFIX}/{function_name}/{moment:%Y/%m/%d}/{moment:%Y-%m-%dT%H.%M.%S}-{unique}"


def detail_type(condition: str) -> str:
    """What EventBridge is told that a record is."""
    return f"Lambda Function Invocation Result - {'Success' if condition == 'Success' else 'Failure'}"


def error_attributes(request_id: str, error_code: int, error_message: str) -> dict[str, dict[str, str]]:
    """The attributes beside an event in a dead-letter queue, as SQS and SNS take them."""
    text = error_message.encode()[:MAX_ERROR_MESSAGE_BYTES].decode(errors="ignore")
    return {
        "RequestID": {"DataType": "String", "StringValue": request_id},
        "ErrorCode": {"DataType": "Number", "StringValue": str(error_code)},
        # Neither takes an empty one.
        "ErrorMessage": {"DataType": "String", "StringValue": message_text(text) or "Unknown"},
    }


def message_text(text: str) -> str:
    """The text without the characters that SQS and SNS refuse."""
    return _FORBIDDEN.sub("\ufffd", text)


def json_text(document: bytes) -> str:
    """JSON as the body of a message: what SQS and SNS refuse can only be inside strings, where it is escaped."""
    text = document.decode(errors="replace")
    return _FORBIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if _FORBIDDEN.search(text) else text


def _json(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
