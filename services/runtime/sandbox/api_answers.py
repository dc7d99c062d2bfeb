"""What the Runtime API says to a runtime client: bytes of HTTP responses. Pure.

Bodies and types are those of AWS's specification of the API, version 2018-06-01.
"""

import json
import re

_REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Payload Too Large",
    431: b"Request Header Fields Too Large",
}
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def answer(status: int, body: bytes, *, keeps_alive: bool = True, headers: bytes = b"") -> bytes:
    """A whole response, for one write: two writes cost 40 ms, as the second waits for the other end's delayed ACK.

    headers: further ones, each with its CRLF.
    """
    return b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n%s\r\n%s" % (
        status,
        _REASONS[status],
        headers,
        len(body),
        b"" if keeps_alive else b"Connection: close\r\n",
        body,
    )


def refusal(status: int, error_type: str, text: str, *, keeps_alive: bool = True) -> bytes:
    """An error with AWS's type."""
    body = json.dumps({"errorMessage": text, "errorType": error_type}).encode()
    return answer(status, body, keeps_alive=keeps_alive)


def accepted(*, keeps_alive: bool = True) -> bytes:
    """A response or an error was taken."""
    return answer(202, b'{"status":"OK"}\n', keeps_alive=keeps_alive)


def invocation(
    request_id: str, deadline_ms: int, arn: bytes, trace_header: bytes, client_context: bytes, payload: bytes
) -> bytes:
    """The answer to `next`; `deadline_ms` since the Unix epoch."""
    parts = [
        b"Lambda-Runtime-Aws-Request-Id: %s\r\n" % request_id.encode(),
        b"Lambda-Runtime-Deadline-Ms: %d\r\n" % deadline_ms,
        b"Lambda-Runtime-Invoked-Function-Arn: %s\r\n" % _value(arn),
    ]
    if trace_header:
        parts.append(b"Lambda-Runtime-Trace-Id: %s\r\n" % _value(trace_header))
    if client_context:
        parts.append(b"Lambda-Runtime-Client-Context: %s\r\n" % _value(client_context))
    return answer(200, payload, headers=b"".join(parts))


def _value(text: bytes) -> bytes:
    # JSON may stand on several lines; a header may not.
    return _CONTROL.sub(b" ", text)
