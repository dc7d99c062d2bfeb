"""A result as vnd.amazon.eventstream, which InvokeWithResponseStream answers: payload chunks, then the end.

A message: total length, headers' length, CRC of these two, headers, payload, CRC of all before; big-endian, CRC-32.
A header: name's length, name, type 7 (text), value's length, value. The runtime hands results over whole: they are cut
into chunks here.
"""

import base64
import json
import struct
import zlib

from evenflow.common.v1 import event_pb2

from services.frontend import http_answers

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
# AWS's own bound of a message is 16 MiB; clients get the first bytes sooner from smaller ones.
MAX_CHUNK_BYTES = 65_536
_TEXT = 7
_RESULT_TYPE = b"application/octet-stream"


def message(kind: str, content_type: bytes, payload: bytes) -> bytes:
    """One event of the stream."""
    headers = b"".join(
        _header(name, value)
        for name, value in (
            (b":event-type", kind.encode()),
            (b":content-type", content_type),
            (b":message-type", b"event"),
        )
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = prelude + struct.pack(">I", zlib.crc32(prelude))
    body = head + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def stream(outcome: event_pb2.Outcome, wants_log: bool) -> bytes:
    """All events of an outcome."""
    payload = outcome.response_payload
    is_error = outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR
    parts = [
        message("PayloadChunk", _RESULT_TYPE, payload[at : at + MAX_CHUNK_BYTES])
        for at in range(0, len(payload), MAX_CHUNK_BYTES)
    ]
    end: dict[str, str] = {}
    if is_error:
        end["ErrorCode"] = outcome.error_type or "Unhandled"
        end["ErrorDetails"] = payload.decode("utf-8", "replace")
    if wants_log:
        end["LogResult"] = base64.b64encode(outcome.log_tail[-http_answers.MAX_LOG_TAIL_BYTES :]).decode()
    parts.append(message("InvokeComplete", b"application/json", json.dumps(end).encode()))
    return b"".join(parts)


def response(outcome: event_pb2.Outcome, request_id: str, date: bytes, wants_log: bool) -> tuple[bytes, bytes]:
    """Head and body of the whole response."""
    body = stream(outcome, wants_log)
    more = [(b"X-Amz-Executed-Version", outcome.executed_version.encode())]
    return http_answers.head(200, request_id, date, len(body), *more, content_type=CONTENT_TYPE), body


def _header(name: bytes, value: bytes) -> bytes:
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", _TEXT, len(value)) + value
