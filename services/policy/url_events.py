"""Function URLs: from an HTTP request to an event (payload format 2.0), and from a result to the response. Pure."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

# More than a URL of the door's length can have.
MAX_QUERY_FIELDS = 8_192
DEFAULT_ROUTE = "$default"
ANONYMOUS = "anonymous"
# Bodies of these arrive as text; all others in base64.
_TEXT_TYPES = re.compile(
    r"(text/[^;]+|application/(json|javascript|xml|[^;/]+\+(json|xml)))(;.*)?", re.IGNORECASE | re.DOTALL
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
# What frames the response is the door's own.
_OWN_HEADERS = frozenset(
    (
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-amzn-requestid",
    )
)
_FIRST_STATUS, _LAST_STATUS = 200, 599


@dataclass(frozen=True, slots=True)
class UrlRequest:
    """An HTTP request at a function's URL. `path` as sent, `headers` by lower-case name, joined by commas."""

    url_id: str
    domain_name: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    protocol: str
    source_ip: str
    request_id: str
    wall_ms: int
    # The same moment as 12/Mar/2020:19:03:58 +0000.
    time_text: str
    # Of a signed call: accessKey, accountId, callerId, userArn, userId.
    iam: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class UrlResponse:
    """What the caller of a URL gets."""

    status: int
    headers: Sequence[tuple[str, str]] = field(default=())
    body: bytes = b""


class Malformed(ValueError):
    """The function's result says that it is a response and is none."""


def event_of(request: UrlRequest) -> dict[str, Any]:
    """The event."""
    headers = {**request.headers, **_forwarded(request)}
    cookies = headers.pop("cookie", "")
    query = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    parameters: dict[str, str] = {}
    for name, value in query:
        parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": DEFAULT_ROUTE,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": _context(request),
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";") if cookie.strip()]
    if parameters:
        event["queryStringParameters"] = parameters
    if request.body:
        event["body"], event["isBase64Encoded"] = _body(headers.get("content-type", ""), request.body)
    return event


def _forwarded(request: UrlRequest) -> dict[str, str]:
    """What AWS says of the connection, in place of what the caller claims."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return {
        "x-forwarded-for": request.source_ip,
        "x-forwarded-proto": "http",
        "x-forwarded-port": port if port.isdigit() else "80",
    }


def _context(request: UrlRequest) -> dict[str, Any]:
    context: dict[str, Any] = {
        "accountId": request.iam["accountId"] if request.iam else ANONYMOUS,
        "apiId": request.url_id,
        "domainName": request.domain_name,
        "domainPrefix": request.url_id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": DEFAULT_ROUTE,
        "stage": DEFAULT_ROUTE,
        "time": request.time_text,
        "timeEpoch": request.wall_ms,
    }
    if request.iam:
        context["authorizer"] = {"iam": {**request.iam, "cognitoIdentity": None, "principalOrgId": None}}
    return context


def _body(content_type: str, body: bytes) -> tuple[str, bool]:
    if _TEXT_TYPES.fullmatch(content_type.strip()):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def response_of(result: bytes) -> UrlResponse:
    """The response that a function's result (JSON) says, or 200 with the result itself. Malformed."""
    try:
        document = json.loads(result) if result else None
    except (ValueError, RecursionError):
        raise Malformed("the result is no JSON") from None
    if not isinstance(document, dict) or "statusCode" not in document:
        return UrlResponse(200, (("content-type", "application/json"),), result)
    headers = _headers(document.get("headers"))
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", "application/json"))
    cookies = document.get("cookies") or []
    if not isinstance(cookies, list):
        raise Malformed("cookies must be a list of texts")
    headers += [("set-cookie", _value(cookie)) for cookie in cookies]
    return UrlResponse(_status(document["statusCode"]), headers, _response_body(document))


def _status(given: Any) -> int:
    text = str(given)
    if isinstance(given, bool) or not text.isascii() or not text.isdecimal() or len(text) != 3:
        raise Malformed(f"statusCode must be {_FIRST_STATUS} to {_LAST_STATUS}")
    if not _FIRST_STATUS <= int(text) <= _LAST_STATUS:
        raise Malformed(f"statusCode must be {_FIRST_STATUS} to {_LAST_STATUS}, not {text}")
    return int(text)


def _headers(given: Any) -> list[tuple[str, str]]:
    if given is None:
        return []
    if not isinstance(given, dict):
        raise Malformed("headers must be an object")
    found: list[tuple[str, str]] = []
    for name, value in given.items():
        if not _HEADER_NAME.fullmatch(name):
            raise Malformed(f"{name[:80]!r} is no name of a header")
        if name.lower() not in _OWN_HEADERS:
            found.append((name.lower(), _value(value)))
    return found


def _value(given: Any) -> str:
    if isinstance(given, (dict, list)) or given is None:
        raise Malformed("a header's value must be a text")
    text = json.dumps(given) if isinstance(given, (bool, int, float)) else str(given)
    # A line's end in a value would be a header of somebody else's making; half a character is no text.
    if not _is_whole(text) or any(character in text for character in "\r\n\0"):
        raise Malformed("a header's value must be one line")
    return text


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _response_body(document: Mapping[str, Any]) -> bytes:
    body = document.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise Malformed("body must be a text")
    if document.get("isBase64Encoded") is True:
        try:
            return base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise Malformed("body is no base64") from None
    return body.encode("utf-8", "replace")
