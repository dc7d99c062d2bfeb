"""Responses of the HTTP door as AWS words them: heads without their last empty line, and bodies."""

import base64
import json
import time

from evenflow.common.v1 import event_pb2

from services.frontend.lambda_api.errors import RATE_EXCEEDED_SECONDS, ApiError
from services.shared import ids
from services.shared.errors import EvenflowError, Reason

# Error shapes of the Lambda model whose text member is "Message"; all others have "message". A test walks the model.
_CAPITAL_MESSAGE = frozenset(
    {
        "ResourceNotFoundException",
        "ServiceException",
        "AccessDeniedException",
        "ResourceInUseException",
        "RecursiveInvocationException",
    }
)
_THROTTLE_REASON: dict[int, str] = {
    Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED: "ReservedFunctionConcurrentInvocationLimitExceeded",
    Reason.ERROR_REASON_CONCURRENCY_EXCEEDED: "ConcurrentInvocationLimitExceeded",
}
_OTHER_THROTTLE_REASON = "CallerRateLimitExceeded"
JSON = b"application/json"
# Of the log, as AWS has it: 4 KB.
MAX_LOG_TAIL_BYTES = 4_096
_PHRASES = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    409: b"Conflict",
    412: b"Precondition Failed",
    413: b"Request Entity Too Large",
    415: b"Unsupported Media Type",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


class DateHeader:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self, wall_ms: int) -> bytes:
        """For this moment."""
        second = wall_ms // 1_000
        if second != self._second:
            self._second = second
            self._line = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(second)).encode()
        return self._line


def accepted(request_id: bytes, date: bytes) -> bytes:
    """202 of an asynchronous invocation: no body."""
    return b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nx-amzn-RequestId: %b\r\n%b" % (
        ids.to_text(request_id).encode(),
        date,
    )


def head(
    status: int, request_id: str, date: bytes, body_bytes: int, *more: tuple[bytes, bytes], content_type: bytes = JSON
) -> bytes:
    """A head with the headers that every response has; a 204 has no length."""
    lines = [
        b"HTTP/1.1 %d %b\r\nx-amzn-RequestId: %b\r\n%b"
        % (status, _PHRASES.get(status, b"Unknown"), request_id.encode(), date)
    ]
    if status != 204:
        lines.append(b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type, body_bytes))
    lines.extend(b"%b: %b\r\n" % pair for pair in more)
    return b"".join(lines)


def outcome(result: event_pb2.Outcome, request_id: str, date: bytes, wants_log: bool) -> tuple[bytes, bytes]:
    """Head and body of a synchronous invocation that ran."""
    more = [(b"X-Amz-Executed-Version", result.executed_version.encode())]
    if result.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
        more.append((b"X-Amz-Function-Error", b"Unhandled"))
    if wants_log:
        more.append((b"X-Amz-Log-Result", base64.b64encode(result.log_tail[-MAX_LOG_TAIL_BYTES:])))
    body = result.response_payload
    return head(200, request_id, date, len(body), *more), body


def error(refusal: EvenflowError, request_id: str, date: bytes) -> tuple[bytes, bytes]:
    """Head and body of a refusal, typed so that AWS's clients raise the exception of that name."""
    kind = refusal.kind
    return _typed(kind.http_status, kind.aws_code, refusal, request_id, date)


def api_error(refusal: ApiError, request_id: str, date: bytes) -> tuple[bytes, bytes]:
    """Head and body of a refusal that has its AWS name already."""
    fields = {"Type": "User" if refusal.status < 500 else "Service"}
    more = [(b"x-amzn-ErrorType", refusal.code.encode())]
    if refusal.reason:
        fields["Reason"] = refusal.reason
    if refusal.status == 429:
        more.append((b"Retry-After", b"%d" % RATE_EXCEEDED_SECONDS))
    fields["Message" if refusal.code in _CAPITAL_MESSAGE else "message"] = refusal.text
    body = json.dumps(fields).encode()
    return head(refusal.status, request_id, date, len(body), *more), body


def unknown_operation(method: str, path: str, request_id: str, date: bytes) -> tuple[bytes, bytes]:
    """404 of a path that no operation has."""
    refusal = EvenflowError(Reason.ERROR_REASON_NOT_IMPLEMENTED, f"no operation is known at {method[:16]} {path[:200]}")
    return _typed(404, "UnknownOperationException", refusal, request_id, date)


def _typed(status: int, code: str, refusal: EvenflowError, request_id: str, date: bytes) -> tuple[bytes, bytes]:
    fields = {"Type": "User" if status < 500 else "Service"}
    more = [(b"x-amzn-ErrorType", code.encode())]
    message = refusal.message
    if code == "TooManyRequestsException":
        fields["Reason"] = _THROTTLE_REASON.get(refusal.reason, _OTHER_THROTTLE_REASON)
        message = "Rate Exceeded."
    fields["Message" if code in _CAPITAL_MESSAGE else "message"] = message
    if status == 429 or refusal.retry_after_ms:
        # Whole seconds, rounded up; never 0, which would ask for a repeat at once.
        more.append((b"Retry-After", b"%d" % max(1, -(-refusal.retry_after_ms // 1_000))))
    body = json.dumps(fields).encode()
    return head(status, request_id, date, len(body), *more), body
