"""The Runtime API's order of calls and what a call makes of a run. Pure.

A runtime client calls `next`, then `response` or `error` with the id it was given, then `next` again; `init/error`
may come only before the first `next`. Source: AWS, "Using the Lambda runtime API", version 2018-06-01.
"""

import base64
import binascii
import json
import re
from typing import Any, NamedTuple

from . import frames
from .http_requests import Request

PREFIX = "/2018-06-01/runtime/"
ERROR_TYPE_HEADER = "lambda-runtime-function-error-type"
ERROR_BODY_TRAILER = "lambda-runtime-function-error-body"
UNKNOWN_ERROR = "Runtime.Unknown"

# Phases of a sandbox: the runtime starts; has asked for work; was answered and has not asked again; runs; gave up.
STARTING, ASKING, READY, RUNNING, FAILED = "Starting", "Asking", "Ready", "Running", "Failed"

_ENDING = re.compile(r"invocation/([^/?]{1,128})/(response|error)")
_FIXED = {"invocation/next": "GET", "init/error": "POST", "restore/next": "GET", "restore/error": "POST"}


class Refusal(NamedTuple):
    """Why a call is not taken."""

    status: int
    error_type: str
    text: str


class Call(NamedTuple):
    """A call of the API: "next", "response", "error", "init/error" or "restore"; the id of the run that is meant."""

    name: str
    request_id: str


class Ending(NamedTuple):
    """How a run ended; an error has a type. `payload` is JSON."""

    payload: bytes
    error_type: str
    error_message: str


def call_of(request: Request) -> "Call | Refusal":
    """What a request asks for."""
    path = request.target.partition("?")[0]
    if not path.startswith(PREFIX):
        return Refusal(404, "NotFound", f"{path[:200]} is no part of the Runtime API, which is below {PREFIX}")
    rest = path[len(PREFIX) :]
    ending = _ENDING.fullmatch(rest)
    expected = "POST" if ending is not None else _FIXED.get(rest)
    if expected is None:
        return Refusal(404, "NotFound", f"{path[:200]} is no call of the Runtime API")
    if request.method != expected:
        return Refusal(405, "MethodNotAllowed", f"{path[:200]} takes {expected}, not {request.method}")
    if ending is not None:
        return Call(ending[2], ending[1])
    if rest.startswith("restore/"):
        return Call("restore", "")
    return Call("next" if rest == "invocation/next" else rest, "")


def refusal_of(call: Call, phase: str, request_id: str) -> "Refusal | None":
    """Why this call may not come now; `request_id` is that of the run under way, "" when nothing runs."""
    if call.name == "next":
        is_allowed = phase in (STARTING, READY)
    elif call.name == "init/error":
        is_allowed = phase == STARTING
    elif call.name in ("response", "error") and phase in (ASKING, READY, RUNNING):
        if phase != RUNNING or call.request_id != request_id:
            # Of another run, too late, or a second time.
            return Refusal(400, "InvalidRequestID", "Invalid request ID")
        is_allowed = True
    else:
        is_allowed = False
    if is_allowed:
        return None
    return Refusal(403, "InvalidStateTransition", f"{call.name} is not allowed while the runtime is {phase}")


def ending_of(call: Call, request: Request) -> Ending:
    """What the body of a `response` or an `error` makes of the run."""
    if request.body_bytes > frames.MAX_RESPONSE_BYTES:
        return _too_large(request.body_bytes)
    if call.name == "error":
        return error_of(request.body, request.headers.get(ERROR_TYPE_HEADER, ""))
    # A streamed response that broke off says so after its last chunk.
    broken = request.trailers.get(ERROR_TYPE_HEADER)
    if broken is not None:
        try:
            body = base64.b64decode(request.trailers.get(ERROR_BODY_TRAILER, ""), validate=True)
        except (binascii.Error, ValueError):
            body = b""
        return error_of(body, broken)
    return _response_of(request.body)


def error_of(body: bytes, header_type: str) -> Ending:
    """The error object that a client sent; type and text from it, else from the header and the body's text."""
    try:
        fields = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return plain_error(
            header_type or UNKNOWN_ERROR, body[: frames.MAX_ERROR_MESSAGE_BYTES].decode(errors="replace")
        )
    error_type, message = fields.get("errorType"), fields.get("errorMessage")
    return Ending(body, _text(error_type) or header_type or UNKNOWN_ERROR, _text(message))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def plain_error(error_type: str, message: str) -> Ending:
    """An error that no client put into words."""
    return Ending(json.dumps({"errorType": error_type, "errorMessage": message}).encode(), error_type, message)


def _too_large(size_bytes: int) -> Ending:
    return plain_error(
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({size_bytes} bytes) exceeded maximum allowed payload size "
        f"({frames.MAX_RESPONSE_BYTES} bytes).",
    )


def _response_of(body: bytes) -> Ending:
    """The body when it is JSON; else its text as a JSON string: everything behind a run takes a payload for JSON."""
    if not body:
        return Ending(b"null", "", "")
    try:
        _decoder.decode(body.decode())
    except (ValueError, RecursionError):
        body = json.dumps(body.decode(errors="replace"), ensure_ascii=False).encode(errors="replace")
        if len(body) > frames.MAX_RESPONSE_BYTES:
            return _too_large(len(body))
    return Ending(body, "", "")


def _nothing(_pairs: Any) -> None:
    """Only whether it is JSON is asked: do not keep what it says."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_nothing, parse_constant=_no_constant)
