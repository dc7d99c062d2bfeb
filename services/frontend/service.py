"""The gRPC door: protobuf to domain and back, for the public port and for the node's inner socket alike."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc
from evenflow.queue.v1 import queue_pb2

from services.frontend.callers import Callers
from services.frontend.invocations import Invocations
from services.frontend.submissions import Submission, Submissions
from services.frontend.telemetry import Telemetry
from services.frontend.tickets import Ticket
from services.policy import validation
from services.policy.accounts import DEFAULT_TENANT
from services.policy.permissions import Caller
from services.shared import ids
from services.shared.channels import carries_token
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, abort, invalid
from services.shared.streams import Wakeup, serve_stream

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 3_670_016
MAX_UNANSWERED_BATCHES = 64
_SAME_FIELDS = [
    f.name
    for f in frontend_pb2.GetEventResponse.DESCRIPTOR.fields
    if f.name in queue_pb2.EventStatus.DESCRIPTOR.fields_by_name and f.name not in ("state", "trace")
]


@dataclass(frozen=True, slots=True)
class Call:
    """What the metadata say: who calls, and within which trace."""

    caller: Caller
    from_fleet: bool
    traceparent: str
    tracestate: str


class FrontendServicer(frontend_pb2_grpc.FrontendServiceServicer):
    """Serves evenflow.frontend.v1.FrontendService."""

    def __init__(
        self,
        submissions: Submissions,
        invocations: Invocations,
        callers: Callers,
        telemetry: Telemetry,
        clock: Clock,
        token: str | None,
    ) -> None:
        """`token`: the fleet's; None: no caller is of the fleet."""
        self._submissions = submissions
        self._invocations = invocations
        self._callers = callers
        self._telemetry = telemetry
        self._clock = clock
        self._token = token

    async def Invoke(self, request: frontend_pb2.InvokeRequest, context: Any) -> frontend_pb2.InvokeResponse:
        """Runs a function and waits for its result."""
        call = await self._call(context)
        request_id = ids.mint(self._clock.wall_ms(), 0)
        caller = call.caller
        try:
            if (request.tenant_id or request.HasField("lineage")) and not call.from_fleet:
                raise _fleet_only()
            if request.tenant_id:
                caller = self._callers.of_tenant(request.tenant_id)
            if request.client_context:
                _check(validation.check_client_context, request.client_context)
            if request.dry_run:
                limit = validation.MAX_SYNC_PAYLOAD_BYTES
                await self._invocations.check(
                    caller, request.function_name, request.qualifier, request.payload, limit, "DryRun"
                )
                return frontend_pb2.InvokeResponse(request_id=request_id)
            outcome = await self._invocations.invoke(
                request_id,
                caller,
                request.function_name,
                request.qualifier,
                request.payload,
                client_context=request.client_context,
                wants_log_tail=request.wants_log_tail,
                traceparent=request.trace.traceparent or call.traceparent,
                tracestate=request.trace.tracestate or call.tracestate,
                lineage=request.lineage if request.HasField("lineage") else None,
            )
        except EvenflowError as e:
            self._telemetry.refused(e, "grpc", ids.to_text(request_id), caller.tenant_id)
            await abort(context, e)
        return frontend_pb2.InvokeResponse(request_id=request_id, outcome=outcome)

    async def InvokeAsync(
        self, request: frontend_pb2.InvokeAsyncRequest, context: Any
    ) -> frontend_pb2.InvokeAsyncResponse:
        """Accepts one event; answers after it is durable."""
        ticket = await self._accept(await self._call(context), [request.event])
        error = ticket.error(0)
        if error is not None:
            await abort(context, error)
        return frontend_pb2.InvokeAsyncResponse(request_id=ticket.request_ids[0], duplicate=ticket.is_duplicate(0))

    async def PublishBatch(
        self, request: frontend_pb2.PublishBatchRequest, context: Any
    ) -> frontend_pb2.PublishBatchResponse:
        """Accepts a batch of events; each is accepted or refused by itself."""
        call = await self._call(context)
        try:
            _check_batch(request)
        except EvenflowError as e:
            self._telemetry.refused(e, "grpc")
            await abort(context, e)
        ticket = await self._accept(call, request.events)
        response = frontend_pb2.PublishBatchResponse()
        _tell(response.results, ticket)
        return response

    async def Publish(  # type: ignore[override]  # the stubs know generators only, grpc.aio takes a coroutine, too
        self, _requests: Any, context: Any
    ) -> None:
        """Accepts batches for as long as the stream lasts; at most 64 are unanswered, then nothing is read."""
        await self._call(context)
        answers: deque[frontend_pb2.PublishResponse] = deque()
        wakeup, gate = Wakeup(), Wakeup()
        unanswered: set[int] = set()

        def on_message(request: frontend_pb2.PublishRequest) -> None:
            if not request.batch_id or request.batch_id in unanswered:
                raise invalid("batch_id must not be 0 and not be one that waits for its answer", field="batch_id")
            _check_batch(request)
            # Anew for each batch: a key that was revoked since opens nothing more.
            call = self._read(context)
            unanswered.add(request.batch_id)
            batch_id, events = request.batch_id, request.events

            def answer(ticket: Ticket) -> None:
                unanswered.discard(batch_id)
                response = frontend_pb2.PublishResponse(batch_id=batch_id)
                _tell(response.results, ticket)
                answers.append(response)
                wakeup.set()
                gate.set()

            submissions = [self._submission(call, e) for e in events]
            self._take(call, events, submissions, answer)

        await serve_stream(
            context,
            on_message=on_message,
            produce=lambda: answers.popleft() if answers else None,
            wakeup=wakeup,
            is_owing=lambda: bool(unanswered),
            # Answers that the caller does not fetch count as unanswered, too.
            may_read=lambda: len(unanswered) + len(answers) < MAX_UNANSWERED_BATCHES,
            read_gate=gate,
        )

    async def GetEvent(self, request: frontend_pb2.GetEventRequest, context: Any) -> frontend_pb2.GetEventResponse:
        """Tells the state of one event."""
        call = await self._call(context)
        caller = call.caller
        try:
            if request.tenant_id and not call.from_fleet:
                raise _fleet_only()
            if request.tenant_id:
                caller = self._callers.of_tenant(request.tenant_id)
            status = await self._invocations.get_event(caller, request.request_id)
        except EvenflowError as e:
            self._telemetry.refused(e, "grpc", request.request_id.hex(), caller.tenant_id)
            await abort(context, e)
        response = frontend_pb2.GetEventResponse(
            state=queue_pb2.EventState.Name(status.state).removeprefix("EVENT_STATE_").lower(), trace=status.trace
        )
        for name in _SAME_FIELDS:
            setattr(response, name, getattr(status, name))
        return response

    async def _accept(self, call: Call, events: Iterable[frontend_pb2.EventSubmission]) -> Ticket:
        done: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        submissions = [self._submission(call, e) for e in events]

        def answer(ticket: Ticket) -> None:
            if not done.done():
                done.set_result(ticket)

        ticket = self._take(call, events, submissions, answer)
        try:
            return await done
        except asyncio.CancelledError:
            ticket.is_given_up = True
            raise

    def _take(
        self,
        call: Call,
        events: Iterable[frontend_pb2.EventSubmission],
        submissions: list[Submission],
        answer: Any,
    ) -> Ticket:
        def on_done(ticket: Ticket) -> None:
            self._submissions.finish(ticket, submissions, "grpc")
            answer(ticket)

        ticket = Ticket(len(submissions), self._clock.monotonic_ms(), on_done)
        for index, (event, submission) in enumerate(zip(events, submissions, strict=True)):
            if not call.from_fleet and (event.tenant_id or event.source or event.HasField("lineage")):
                ticket.refuse(index, _fleet_only())
            else:
                self._submissions.take(ticket, index, submission)
        return ticket

    def _submission(self, call: Call, event: frontend_pb2.EventSubmission) -> Submission:
        traceparent, tracestate = call.traceparent, call.tracestate
        if event.HasField("trace"):
            traceparent, tracestate = event.trace.traceparent, event.trace.tracestate
        if not call.from_fleet:
            return Submission(
                call.caller,
                event.function_name,
                event.qualifier,
                event.payload,
                "grpc",
                traceparent,
                tracestate,
                event.client_token,
            )
        lineage: event_pb2.Lineage | None = event.lineage if event.HasField("lineage") else None
        return Submission(
            self._callers.of_tenant(event.tenant_id) if event.tenant_id else call.caller,
            event.function_name,
            event.qualifier,
            event.payload,
            event.source or "grpc",
            traceparent,
            tracestate,
            event.client_token,
            lineage,
            True,
        )

    async def _call(self, context: Any) -> Call:
        try:
            return self._read(context)
        except EvenflowError as e:
            self._telemetry.refused(e, "grpc")
            await abort(context, e)

    def _read(self, context: Any) -> Call:
        """EvenflowError: the caller is not proven, and has to be."""
        metadata = context.invocation_metadata() or ()
        traceparent, tracestate = "", ""
        for key, value in metadata:
            if key == "traceparent":
                traceparent = value
            elif key == "tracestate":
                tracestate = value
        from_fleet = self._token is not None and carries_token(metadata, self._token)
        caller = self._callers.of_tenant(DEFAULT_TENANT) if from_fleet else self._callers.of_metadata(metadata)
        return Call(caller, from_fleet, traceparent, tracestate)


def _tell(results: Any, ticket: Ticket) -> None:
    """Add a SubmissionResult for each submission to the repeated field of an answer."""
    for index, request_id in enumerate(ticket.request_ids):
        error = ticket.error(index)
        if error is not None:
            results.add(error=error.to_detail())
        elif ticket.is_duplicate(index):
            results.add(request_id=request_id, duplicate=True)
        else:
            results.add(request_id=request_id)


def _check_batch(request: frontend_pb2.PublishBatchRequest | frontend_pb2.PublishRequest) -> None:
    if not 1 <= len(request.events) <= MAX_BATCH_EVENTS:
        raise invalid(f"a batch has 1 to {MAX_BATCH_EVENTS} events, not {len(request.events)}", field="events")
    if request.ByteSize() > MAX_BATCH_BYTES:
        raise EvenflowError(
            Reason.ERROR_REASON_REQUEST_TOO_LARGE,
            f"a batch has at most {MAX_BATCH_BYTES} bytes serialized: send smaller ones",
            metadata={"limit": str(MAX_BATCH_BYTES)},
        )


def _check(check: Any, value: str) -> None:
    try:
        check(value)
    except ValueError as e:
        raise EvenflowError(Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, str(e)) from None


def _fleet_only() -> EvenflowError:
    return EvenflowError(
        Reason.ERROR_REASON_ACCESS_DENIED,
        "tenant_id, lineage and source are for services of the fleet: leave them empty",
    )
