"""The AWS Lambda HTTP API: requests to domain and back."""

import asyncio
import base64
import logging

from evenflow.common.v1 import event_pb2

from services.frontend import http_answers
from services.frontend.callers import Callers
from services.frontend.http_protocol import HttpConnection, HttpRequest
from services.frontend.http_routes import Route, Routes
from services.frontend.http_traces import lineage_of, parent_of
from services.frontend.invocations import Invocations
from services.frontend.submissions import Submission, Submissions, draining
from services.frontend.telemetry import Telemetry
from services.frontend.tickets import Ticket
from services.frontend.webhooks import Webhooks
from services.policy import validation
from services.policy.permissions import Caller
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid

INVOCATION_TYPES = {b"Event": "Event", b"RequestResponse": "RequestResponse", b"DryRun": "DryRun"}
log = logging.getLogger(__name__)


class HttpDoor:
    """Answers every request of the HTTP port."""

    def __init__(
        self,
        submissions: Submissions,
        invocations: Invocations,
        callers: Callers,
        telemetry: Telemetry,
        clock: Clock,
        webhooks: Webhooks,
    ) -> None:
        self._webhooks = webhooks
        self._submissions = submissions
        self._invocations = invocations
        self._callers = callers
        self._telemetry = telemetry
        self._clock = clock
        self._routes = Routes()
        self._date = http_answers.DateHeader()
        self._waiting: dict[HttpRequest, asyncio.Task[None]] = {}
        self.owed = 0
        self.is_draining = False

    def body_limit(self, request: HttpRequest) -> int:
        """See HttpHandler: the limit of the operation and, for Invoke, of the invocation type."""
        if self._webhooks.is_named(request):
            return self._webhooks.body_limit
        route = self._routes.find(request.method, request.url)
        if not self._callers.may_send(request):
            return 0
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
            if self._webhooks.is_named(request):
                task = asyncio.create_task(self._take_webhook(connection, request), name="webhook")
                self._waiting[request] = task
                task.add_done_callback(lambda _: self._waiting.pop(request, None))
                return
            route = self._routes.find(request.method, request.url)
            if route.operation == "health":
                self._health(connection, request)
                return
            caller = self._callers.of_request(request)
            if route.operation == "invoke":
                self._invoke(connection, request, route, caller)
            elif route.operation == "invoke-async":
                self._accept(connection, request, route, caller, validation.MAX_OLD_ASYNC_PAYLOAD_BYTES)
            elif route.operation == "not-offered":
                raise EvenflowError(
                    Reason.ERROR_REASON_NOT_IMPLEMENTED,
                    f"{request.method.decode('ascii', 'replace')} {route.path[:200]} is not offered by Evenflow",
                )
            else:
                connection.answer(
                    request,
                    *http_answers.unknown_operation(
                        request.method.decode("ascii", "replace"), route.path, self._new_id(), self._now()
                    ),
                )
        except EvenflowError as e:
            self._refuse(connection, request, e, self._new_id())
        except Exception:
            log.exception("a request could not be handled")
            self._refuse(connection, request, _own_fault(), self._new_id())

    def malformed(self, message: str) -> bytes:
        """See HttpHandler."""
        head, body = http_answers.error(
            invalid(f"the request is malformed: {message[:200]}"), self._new_id(), self._now()
        )
        return b"".join((head, b"Connection: close\r\n\r\n", body))

    def busy(self) -> bytes:
        """See HttpHandler."""
        error = (
            draining()
            if self.is_draining
            else EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "too many connections: try again", 1_000)
        )
        head, body = http_answers.error(error, self._new_id(), self._now())
        return b"".join((head, b"Connection: close\r\n\r\n", body))

    def is_answered_soon(self, request: HttpRequest) -> bool:
        """See HttpHandler: an accept is, a synchronous invocation may not be."""
        return request not in self._waiting

    def gone(self, request: HttpRequest) -> None:
        """See HttpHandler: nobody waits for this invocation any more."""
        task = self._waiting.get(request)
        if task is not None:
            task.cancel()

    def _invoke(self, connection: HttpConnection, request: HttpRequest, route: Route, caller: Caller) -> None:
        given = request.headers.get(b"x-amz-invocation-type", b"RequestResponse")
        kind = INVOCATION_TYPES.get(given)
        if kind is None:
            raise invalid(
                f"1 validation error detected: Value '{given.decode('ascii', 'replace')[:64]}' at 'invocationType' "
                "failed to satisfy constraint: Member must satisfy enum value set: [RequestResponse, Event, DryRun]",
                field="invocationType",
            )
        context = ""
        encoded = request.headers.get(b"x-amz-client-context")
        if encoded:
            try:
                context = validation.decode_client_context(encoded)
            except ValueError as e:
                raise EvenflowError(Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, str(e)) from None
        if kind == "Event":
            self._accept(connection, request, route, caller, validation.MAX_ASYNC_PAYLOAD_BYTES)
            return
        if self.is_draining:
            raise draining()
        self._refuse_too_large(request, validation.MAX_SYNC_PAYLOAD_BYTES)
        task = asyncio.create_task(self._run(connection, request, route, caller, kind, context), name="sync invocation")
        self._waiting[request] = task
        task.add_done_callback(lambda _: self._waiting.pop(request, None))

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
        self.owed += 1

        def on_done(ticket: Ticket) -> None:
            self.owed -= 1
            self._submissions.finish(ticket, [submission], "http")
            error = ticket.error(0)
            if error is not None:
                request_id = ids.to_text(ticket.request_ids[0]) if ticket.request_ids[0] else self._new_id()
                connection.answer(request, *http_answers.error(error, request_id, self._now()))
            elif limit == validation.MAX_ASYNC_PAYLOAD_BYTES:
                connection.answer(request, http_answers.accepted(ticket.request_ids[0], self._now()))
            else:
                body = b'{"Status":202}'
                text = ids.to_text(ticket.request_ids[0])
                connection.answer(request, http_answers.head(202, text, self._now(), len(body)), body)

        self._submissions.take(Ticket(1, request.arrived_ms, on_done), 0, submission)

    async def _run(
        self,
        connection: HttpConnection,
        request: HttpRequest,
        route: Route,
        caller: Caller,
        kind: str,
        client_context: str,
    ) -> None:
        request_id = ids.mint(self._clock.wall_ms(), 0)
        text = ids.to_text(request_id)
        self.owed += 1
        try:
            if kind == "DryRun":
                limit = validation.MAX_SYNC_PAYLOAD_BYTES
                await self._invocations.check(caller, route.function_name, route.qualifier, request.body, limit, kind)
                connection.answer(request, http_answers.head(204, text, self._now(), 0))
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
            more = [(b"X-Amz-Executed-Version", (outcome.executed_version or "$LATEST").encode())]
            if outcome.status == event_pb2.OUTCOME_STATUS_FUNCTION_ERROR:
                more.append((b"X-Amz-Function-Error", b"Unhandled"))
            if wants_log:
                more.append((b"X-Amz-Log-Result", base64.b64encode(outcome.log_tail[-4_096:])))
            body = outcome.response_payload
            connection.answer(request, http_answers.head(200, text, self._now(), len(body), *more), body)
        except EvenflowError as e:
            self._refuse(connection, request, e, text, caller.tenant_id)
        except Exception:
            log.exception("an invocation could not be handled", extra={"request_id": text})
            self._refuse(connection, request, _own_fault(), text, caller.tenant_id)
        finally:
            self.owed -= 1

    async def _take_webhook(self, connection: HttpConnection, request: HttpRequest) -> None:
        text = self._new_id()
        self.owed += 1
        try:
            if self.is_draining:
                raise draining()
            body = await self._webhooks.answer(request)
            connection.answer(request, http_answers.head(200, text, self._now(), len(body)), body)
        except EvenflowError as e:
            self._refuse(connection, request, e, text)
        except Exception:
            log.exception("a webhook could not be handled", extra={"request_id": text})
            self._refuse(connection, request, _own_fault(), text)
        finally:
            self.owed -= 1

    def _health(self, connection: HttpConnection, request: HttpRequest) -> None:
        if self.is_draining:
            raise draining()
        body = b'{"status":"SERVING"}'
        connection.answer(request, http_answers.head(200, self._new_id(), self._now(), len(body)), body)

    def _refuse(
        self, connection: HttpConnection, request: HttpRequest, error: EvenflowError, text: str, tenant_id: str = ""
    ) -> None:
        self._telemetry.refused(error, "http", text, tenant_id)
        connection.answer(request, *http_answers.error(error, text, self._now()))

    def _refuse_too_large(self, request: HttpRequest, limit: int) -> None:
        if request.is_too_large:
            raise EvenflowError(
                Reason.ERROR_REASON_REQUEST_TOO_LARGE,
                f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
                metadata={"limit": str(limit)},
            )

    def _new_id(self) -> str:
        return ids.to_text(ids.mint(self._clock.wall_ms(), 0))

    def _now(self) -> bytes:
        return self._date.line(self._clock.wall_ms())


def _own_fault() -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_INTERNAL, "a fault of Evenflow's own; its log has the details")
