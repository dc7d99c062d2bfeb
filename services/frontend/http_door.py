"""The HTTP door: invocations of the AWS Lambda API, and where everything else at the port is answered."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.frontend import event_stream, http_answers
from services.frontend.callers import Callers
from services.frontend.function_urls.url_door import UrlDoor
from services.frontend.http_api import ApiDoor
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_replies import Replies
from services.frontend.http_routes import Route, Routes
from services.frontend.http_traces import lineage_of, parent_of
from services.frontend.invocations import Invocations
from services.frontend.lambda_api.api import body_limit
from services.frontend.lambda_api.errors import ApiError, bad_bounds
from services.frontend.submissions import Submission, Submissions, draining
from services.frontend.tickets import Ticket
from services.frontend.webhooks import Webhooks
from services.policy import validation
from services.policy.permissions import Caller
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

INVOCATION_TYPES = {b"Event": "Event", b"RequestResponse": "RequestResponse", b"DryRun": "DryRun"}
# These let everybody in, or look at who calls by rules of their own.
_UNSIGNED = frozenset(("health", "package", "url", "named-url", "webhook"))
_NAMED_URL = Route("named-url", "")
_WEBHOOK = Route("webhook", "")


class HttpDoor:
    """Answers every request of the HTTP port."""

    def __init__(
        self,
        submissions: Submissions,
        invocations: Invocations,
        callers: Callers,
        api: ApiDoor,
        urls: UrlDoor,
        replies: Replies,
        clock: Clock,
        webhooks: Webhooks,
    ) -> None:
        self._webhooks = webhooks
        self._submissions = submissions
        self._invocations = invocations
        self._callers = callers
        self._api = api
        self._urls = urls
        self._replies = replies
        self._clock = clock
        self._routes = Routes()
        self._waiting: dict[HttpRequest, asyncio.Task[None]] = {}

    @property
    def owed(self) -> int:
        """Requests that are not answered yet."""
        return self._replies.owed

    def drain(self) -> None:
        """Refuse what is new."""
        self._replies.is_draining = True

    def body_limit(self, request: HttpRequest) -> int:
        """See HttpHandler: the limit of the operation and, for Invoke, of the invocation type."""
        route = self._route(request)
        if route.operation in _UNSIGNED:
            is_webhook = route.operation == "webhook"
            return self._webhooks.body_limit(request) if is_webhook else validation.MAX_SYNC_PAYLOAD_BYTES
        if self._callers.is_strict and not self._callers.may_send(request):
            return 0
        if route.operation == "api":
            return body_limit(request.url)
        if route.operation == "invoke-async":
            return validation.MAX_OLD_ASYNC_PAYLOAD_BYTES
        if request.headers.get(b"x-amz-invocation-type") == b"Event":
            return validation.MAX_ASYNC_PAYLOAD_BYTES
        return validation.MAX_SYNC_PAYLOAD_BYTES

    def handle(self, connection: HttpConnection, request: HttpRequest) -> None:
        """See HttpHandler."""
        try:
            if request.is_over_bound:
                raise EvenflowError(
                    Reason.ERROR_REASON_UNAVAILABLE, "this door holds as many bytes as it may: try again", 1_000
                )
            route = request.route or self._route(request)
            if route.operation in _UNSIGNED:
                self._handle_unsigned(connection, request, route)
                return
            caller = self._callers.of_request(request)
            if route.wrong:
                raise bad_bounds(route.wrong)
            if route.operation == "invoke":
                self._invoke(connection, request, route, caller)
            elif route.operation == "invoke-async":
                self._accept(connection, request, route, caller, validation.MAX_OLD_ASYNC_PAYLOAD_BYTES)
            else:
                self._handle_other(connection, request, route, caller)
        except (EvenflowError, ApiError) as e:
            self._replies.refuse(connection, request, e, self._replies.new_id())
        except Exception:
            self._replies.fail(connection, request, "a request", self._replies.new_id())

    def _route(self, request: HttpRequest) -> Route:
        """Looked for once a request: at its headers when a body follows, else when it is whole."""
        if self._urls.is_named(request):
            route = _NAMED_URL
        elif self._webhooks.is_named(request):
            route = _WEBHOOK
        else:
            route = self._routes.find(request.method, request.url)
        request.route = route
        return route

    def _handle_unsigned(self, connection: HttpConnection, request: HttpRequest, route: Route) -> None:
        match route.operation:
            case "package":
                self._api.download(connection, request)
            case "url":
                self._wait_for(request, self._urls.answer_at_path(connection, request))
            case "named-url":
                self._wait_for(request, self._urls.answer(connection, request))
            case "webhook":
                self._wait_for(request, self._webhooks.answer(connection, request))
            case _:
                self._health(connection, request)

    def _handle_other(self, connection: HttpConnection, request: HttpRequest, route: Route, caller: Caller) -> None:
        match route.operation:
            case "invoke-stream":
                self._invoke(connection, request, route, caller, is_stream=True)
            case "api":
                self._api.handle(connection, request, caller)
            case _:
                head, body = http_answers.unknown_operation(
                    request.method.decode("ascii", "replace"), route.path, self._replies.new_id(), self._replies.now()
                )
                connection.answer(request, head, body)

    def malformed(self, message: str) -> bytes:
        """See HttpHandler."""
        head, body = http_answers.error(
            invalid(f"the request is malformed: {message[:200]}"), self._replies.new_id(), self._replies.now()
        )
        return b"".join((head, b"Connection: close\r\n\r\n", body))

    def busy(self) -> bytes:
        """See HttpHandler."""
        error = (
            draining()
            if self._replies.is_draining
            else EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "too many connections: try again", 1_000)
        )
        head, body = http_answers.error(error, self._replies.new_id(), self._replies.now())
        return b"".join((head, b"Connection: close\r\n\r\n", body))

    def is_answered_soon(self, request: HttpRequest) -> bool:
        """See HttpHandler: an accept is, a synchronous invocation may not be."""
        return request not in self._waiting

    def gone(self, request: HttpRequest) -> None:
        """See HttpHandler: nobody waits for this invocation any more."""
        task = self._waiting.get(request)
        if task is not None:
            task.cancel()

    def _invoke(
        self, connection: HttpConnection, request: HttpRequest, route: Route, caller: Caller, *, is_stream: bool = False
    ) -> None:
        given = request.headers.get(b"x-amz-invocation-type", b"RequestResponse")
        kind = INVOCATION_TYPES.get(given)
        if kind is None:
            raise bad_bounds(
                f"1 validation error detected: Value '{given.decode('ascii', 'replace')[:64]}' at 'invocationType' "
                "failed to satisfy constraint: Member must satisfy enum value set: [RequestResponse, Event, DryRun]"
            )
        context = ""
        encoded = request.headers.get(b"x-amz-client-context")
        if encoded:
            try:
                context = validation.decode_client_context(encoded)
            except ValueError as e:
                raise EvenflowError(Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, str(e)) from None
        if kind == "Event" and not is_stream:
            self._accept(connection, request, route, caller, validation.MAX_ASYNC_PAYLOAD_BYTES)
            return
        if self._replies.is_draining:
            raise draining()
        self._refuse_too_large(request, validation.MAX_SYNC_PAYLOAD_BYTES)
        self._wait_for(request, self._run(connection, request, route, caller, kind, context, is_stream))

    def _wait_for(self, request: HttpRequest, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="sync invocation")
        self._waiting[request] = task
        self._replies.owed += 1
        task.add_done_callback(lambda _: self._waited(request))

    def _waited(self, request: HttpRequest) -> None:
        self._waiting.pop(request, None)
        self._replies.owed -= 1

    def _accept(
        self, connection: HttpConnection, request: HttpRequest, route: Route, caller: Caller, limit: int
    ) -> None:
        self._refuse_too_large(request, limit)
        traceparent, tracestate = parent_of(request.headers)
        submission = Submission(
            caller,
            route.function_name,
            route.qualifier,
            request.body,
            "invoke",
            traceparent,
            tracestate,
            lineage=lineage_of(request.headers),
            max_payload_bytes=limit,
        )
        self._replies.owed += 1

        def on_done(ticket: Ticket) -> None:
            self._replies.owed -= 1
            self._submissions.finish(ticket, [submission], "http")
            error = ticket.error(0)
            if error is not None:
                request_id = ids.to_text(ticket.request_ids[0]) if ticket.request_ids[0] else self._replies.new_id()
                connection.answer(request, *http_answers.error(error, request_id, self._replies.now()))
            elif limit == validation.MAX_ASYNC_PAYLOAD_BYTES:
                connection.answer(request, http_answers.accepted(ticket.request_ids[0], self._replies.now()))
            else:
                body = b'{"Status":202}'
                text = ids.to_text(ticket.request_ids[0])
                connection.answer(request, http_answers.head(202, text, self._replies.now(), len(body)), body)

        self._submissions.take(Ticket(1, request.arrived_ms, on_done), 0, submission)

    async def _run(
        self,
        connection: HttpConnection,
        request: HttpRequest,
        route: Route,
        caller: Caller,
        kind: str,
        client_context: str,
        is_stream: bool,
    ) -> None:
        request_id = ids.mint(self._clock.wall_ms(), 0)
        text = ids.to_text(request_id)
        try:
            if kind == "DryRun":
                limit = validation.MAX_SYNC_PAYLOAD_BYTES
                await self._invocations.check(caller, route.function_name, route.qualifier, request.body, limit, kind)
                connection.answer(request, http_answers.head(204, text, self._replies.now(), 0))
                return
            traceparent, tracestate = parent_of(request.headers)
            wants_log = request.headers.get(b"x-amz-log-type") == b"Tail"
            outcome = await self._invocations.invoke(
                request_id,
                caller,
                route.function_name,
                route.qualifier,
                request.body,
                client_context=client_context,
                wants_log_tail=wants_log,
                traceparent=traceparent,
                tracestate=tracestate,
                lineage=lineage_of(request.headers),
            )
            respond = event_stream.response if is_stream else http_answers.outcome
            connection.answer(request, *respond(outcome, text, self._replies.now(), wants_log))
        except EvenflowError as e:
            self._replies.refuse(connection, request, e, text, caller.tenant_id)
        except Exception:
            self._replies.fail(connection, request, "an invocation", text, caller.tenant_id)

    def _health(self, connection: HttpConnection, request: HttpRequest) -> None:
        if self._replies.is_draining:
            raise draining()
        body = b'{"status":"SERVING"}'
        connection.answer(request, http_answers.head(200, self._replies.new_id(), self._replies.now(), len(body)), body)

    def _refuse_too_large(self, request: HttpRequest, limit: int) -> None:
        if request.is_too_large:
            raise EvenflowError(
                Reason.ERROR_REASON_REQUEST_TOO_LARGE,
                f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
                metadata={"limit": str(limit)},
            )
