"""Serves function URLs: http://ID.lambda-url.REGION.localhost:PORT/, or /_evenflow/url/ID/ where that is not found."""

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2

from services.frontend.callers import Callers
from services.frontend.function_urls.url_book import Address, UrlBook
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_replies import Replies
from services.frontend.http_routes import URL_PATH
from services.frontend.http_traces import parent_of
from services.frontend.invocations import Invocations
from services.policy import cors, url_events, validation
from services.policy.arns import function_arn
from services.policy.permissions import ANONYMOUS, INVOKE_URL, Resource, may
from services.policy.url_events import UrlRequest, UrlResponse
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

HOST_MARK = b".lambda-url."
AWS_IAM = "AWS_IAM"
# AWS's words, with the page that says which statement is missing.
FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
STREAM_CHUNK_BYTES = 65_536
_TEXT_PLAIN = ("content-type", "text/plain")
_JSON = ("content-type", "application/json")
_STREAM = ("content-type", "application/octet-stream")


class UrlDoor:
    """Answers requests at function URLs."""

    def __init__(
        self,
        book: UrlBook,
        invocations: Invocations,
        replies: Replies,
        clock: Clock,
        callers: Callers,
        region: Callable[[], str],
    ) -> None:
        """`region`: the fleet's."""
        self._book = book
        self._invocations = invocations
        self._replies = replies
        self._clock = clock
        self._callers = callers
        self._region = region

    def is_named(self, request: HttpRequest) -> bool:
        """Whether the Host header names a function URL."""
        host = request.headers.get(b"host")
        return host is not None and HOST_MARK in host

    async def answer(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer a request whose Host header names the URL."""
        url_id = request.headers[b"host"].partition(b".")[0].decode("ascii", "replace").lower()
        await self._answer(connection, request, url_id, request.url.decode("ascii", "replace"))

    async def answer_at_path(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer a request whose path names the URL."""
        url_id, _, rest = request.url.decode("ascii", "replace").removeprefix(URL_PATH).partition("/")
        url_id, question, query = url_id.partition("?")
        await self._answer(connection, request, url_id, f"/{rest}{question}{query}")

    async def _answer(self, connection: HttpConnection, request: HttpRequest, url_id: str, target: str) -> None:
        request_id = ids.mint(self._clock.wall_ms(), 0)
        text = ids.to_text(request_id)
        address = self._book.find(url_id)
        headers = _headers(request)
        rules = _rules(address.url.cors) if address is not None and address.url.HasField("cors") else None
        if rules is not None and cors.is_preflight(request.method.decode("ascii", "replace"), headers):
            response = UrlResponse(200, cors.preflight_headers(rules, headers))
            connection.answer(request, *self._write(request, response, text, False))
            return
        try:
            response, is_stream = await self._respond(connection, request, address, url_id, target, request_id)
        except EvenflowError as e:
            response, is_stream = _refusal(e), False
        except Exception:
            self._replies.fail(connection, request, "a function URL's request", text)
            return
        if rules is not None:
            response = _with_cors(response, rules, headers)
        connection.answer(request, *self._write(request, response, text, is_stream))

    async def _respond(
        self,
        connection: HttpConnection,
        request: HttpRequest,
        address: Address | None,
        url_id: str,
        target: str,
        request_id: bytes,
    ) -> tuple[UrlResponse, bool]:
        if address is None:
            return _message(404, "Not Found"), False
        headers, method = _headers(request), request.method.decode("ascii", "replace")
        if request.is_too_large:
            return _message(413, "Request Entity Too Large"), False
        iam = self._identify(request, address)
        path, _, query = target.partition("?")
        wall_ms = self._clock.wall_ms()
        event = url_events.event_of(
            UrlRequest(
                url_id,
                headers.get("host", "").partition(":")[0],
                method,
                path,
                query,
                headers,
                request.body,
                "HTTP/1.1" if request.is_http_1_1 else "HTTP/1.0",
                connection.peer_ip,
                ids.to_text(request_id),
                wall_ms,
                time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(wall_ms // 1_000)),
                iam,
            )
        )
        payload = json.dumps(event, separators=(",", ":")).encode()
        if len(payload) > validation.MAX_SYNC_PAYLOAD_BYTES:
            return _message(413, "Request Entity Too Large"), False
        return await self._invoke(request, address, request_id, payload)

    async def _invoke(
        self, request: HttpRequest, address: Address, request_id: bytes, payload: bytes
    ) -> tuple[UrlResponse, bool]:
        traceparent, tracestate = parent_of(request.headers)
        outcome = await self._invocations.invoke(
            request_id,
            # The URL speaks for the owner: who may call it was looked at before.
            self._callers.of_tenant(address.function.tenant_id),
            address.function.function_name,
            address.url.qualifier,
            payload,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        if outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
            return UrlResponse(502, (_TEXT_PLAIN,), b"Internal Server Error"), False
        if address.url.invoke_mode == "RESPONSE_STREAM":
            return UrlResponse(200, (_STREAM,), outcome.response_payload), True
        try:
            return url_events.response_of(outcome.response_payload), False
        except url_events.Malformed:
            return UrlResponse(502, (_TEXT_PLAIN,), b"Internal Server Error"), False

    def _identify(self, request: HttpRequest, address: Address) -> dict[str, str] | None:
        """Who signed the request, as requestContext.authorizer.iam has it; None: at this URL nobody has to sign.

        EvenflowError ACCESS_DENIED: the function's policy does not let the caller in, or everybody; unproven.
        """
        function, url = address.function, address.url
        caller = self._callers.proven(request) if url.auth_type == AWS_IAM else ANONYMOUS
        account = self._callers.of_tenant(function.tenant_id).account_id
        resource = Resource(
            function.tenant_id,
            function_arn(self._region(), account, function.function_name, url.qualifier),
            function.function_name,
            url.qualifier,
            function.permissions,
            url.auth_type,
        )
        if not may(caller, INVOKE_URL, resource):
            raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, FORBIDDEN)
        if caller is ANONYMOUS:
            return None
        identity = caller.principal.rpartition("/")[2]
        return {
            "accessKey": identity,
            "accountId": caller.account_id,
            "callerId": identity,
            "userArn": caller.principal,
            "userId": identity,
        }

    def _write(
        self, request: HttpRequest, response: UrlResponse, request_id: str, is_stream: bool
    ) -> tuple[bytes, bytes]:
        body = response.body
        lines = [
            b"HTTP/1.1 %d %b\r\n" % (response.status, _phrase(response.status)),
            b"x-amzn-RequestId: %b\r\n" % request_id.encode(),
            self._replies.now(),
        ]
        lines += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in response.headers]
        if response.status in (204, 304):
            body = b""
        elif is_stream and request.is_http_1_1:
            lines.append(b"Transfer-Encoding: chunked\r\n")
            body = _chunked(body)
        else:
            lines.append(b"Content-Length: %d\r\n" % len(body))
        return b"".join(lines), body


def _headers(request: HttpRequest) -> dict[str, str]:
    """By lower-case name, those of one name joined."""
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()}
    for raw_name, value in reversed(request.repeated):
        name = raw_name.decode("latin-1")
        found[name] = value.decode("latin-1") + ("; " if name == "cookie" else ",") + found[name]
    return found


def _rules(given: resources_pb2.Cors) -> cors.CorsRules:
    return cors.CorsRules(
        list(given.allow_origins),
        list(given.allow_methods),
        list(given.allow_headers),
        list(given.expose_headers),
        given.allow_credentials,
        given.max_age_seconds,
    )


def _with_cors(response: UrlResponse, rules: cors.CorsRules, headers: Mapping[str, str]) -> UrlResponse:
    """The function's own words on cross-origin calls give way to the URL's rules."""
    kept = [(name, value) for name, value in response.headers if not name.startswith("access-control-")]
    return UrlResponse(response.status, [*kept, *cors.response_headers(rules, headers)], response.body)


def _message(status: int, text: str) -> UrlResponse:
    return UrlResponse(status, (_JSON,), json.dumps({"Message": text}).encode())


def _refusal(error: EvenflowError) -> UrlResponse:
    if error.kind.http_status == 429:
        return _message(429, "Rate Exceeded.")
    if error.reason == Reason.ERROR_REASON_REQUEST_TOO_LARGE:
        return _message(413, "Request Entity Too Large")
    return _message(error.kind.http_status, error.message)


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


def _chunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    for at in range(0, len(body), STREAM_CHUNK_BYTES):
        part = body[at : at + STREAM_CHUNK_BYTES]
        parts.append(b"%x\r\n%b\r\n" % (len(part), part))
    return b"".join((*parts, b"0\r\n\r\n"))
