"""Admits submissions: checks them, finds their function and sends them on their way; the same for every door."""

import asyncio
from dataclasses import dataclass

from evenflow.common.v1 import event_pb2
from opentelemetry.trace import Span

from services.frontend.accept import Accepter
from services.frontend.targets import Target, Targets
from services.frontend.telemetry import Telemetry
from services.frontend.tickets import Ticket
from services.policy import validation
from services.policy.permissions import Caller
from services.shared import ids
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.tracing import Tracer

DRAIN_RETRY_MS = 1_000


@dataclass(slots=True)
class Submission:
    """One event as a caller brought it; text fields are as received. `from_fleet`: the caller has the fleet's token."""

    caller: Caller
    function_name: str
    qualifier: str
    payload: bytes
    source: str
    traceparent: str = ""
    tracestate: str = ""
    client_token: str = ""
    lineage: event_pb2.Lineage | None = None
    from_fleet: bool = False
    max_payload_bytes: int = validation.MAX_ASYNC_PAYLOAD_BYTES
    # Whose function it is, once that is known; until then the caller's.
    tenant_id: str = ""


def check_payload(payload: bytes, limit_bytes: int, invocation_type: str) -> bytes:
    """The payload as it goes on; empty becomes {}. EvenflowError: REQUEST_TOO_LARGE or INVALID_REQUEST_CONTENT."""
    if len(payload) > limit_bytes:
        raise EvenflowError(
            Reason.ERROR_REASON_REQUEST_TOO_LARGE,
            f"{len(payload)} byte payload is too large for the {invocation_type} invocation type "
            f"(limit {limit_bytes} bytes)",
            metadata={"limit": str(limit_bytes)},
        )
    if not payload:
        return validation.EMPTY_PAYLOAD
    try:
        validation.check_json(payload)
    except ValueError as e:
        raise EvenflowError(
            Reason.ERROR_REASON_INVALID_REQUEST_CONTENT, f"Could not parse request body into json: {e}"
        ) from None
    return payload


def draining() -> EvenflowError:
    """The refusal of a door that is closing."""
    return EvenflowError(
        Reason.ERROR_REASON_DRAINING, "this door is draining: go to another one, or try again", DRAIN_RETRY_MS
    )


class Submissions:
    """Takes submissions of any door."""

    def __init__(self, targets: Targets, accepter: Accepter, tracer: Tracer, telemetry: Telemetry) -> None:
        self._targets = targets
        self._accepter = accepter
        self._tracer = tracer
        self._telemetry = telemetry
        self._asking: set[asyncio.Task[None]] = set()
        self.is_draining = False

    def take(self, ticket: Ticket, index: int, submission: Submission) -> None:
        """Send one submission on its way; its ticket is told what became of it, perhaps before this returns."""
        try:
            if self.is_draining:
                raise draining()
            submission.payload = check_payload(submission.payload, submission.max_payload_bytes, "Event")
            submission.tenant_id = submission.caller.tenant_id
            target = self._targets.find(submission.caller, submission.function_name, submission.qualifier)
            if submission.client_token or submission.lineage is not None or submission.from_fleet:
                _check_extras(submission)
        except EvenflowError as e:
            ticket.refuse(index, e)
            return
        if target is not None:
            self._send(ticket, index, submission, target)
        else:
            task = asyncio.create_task(self._ask(ticket, index, submission), name="ask, then accept")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, ticket: Ticket, index: int, submission: Submission) -> None:
        try:
            target = await self._targets.ask(submission.caller, submission.function_name, submission.qualifier)
        except EvenflowError as e:
            ticket.refuse(index, e)
        except Exception as e:
            ticket.refuse(index, EvenflowError(Reason.ERROR_REASON_INTERNAL, f"control could not be asked: {e}"))
            raise
        else:
            self._send(ticket, index, submission, target)

    def _send(self, ticket: Ticket, index: int, submission: Submission, target: Target) -> None:
        # From here on its plain name, whatever form the caller used: metrics have one series a function.
        submission.function_name, submission.tenant_id = target.function_name, target.tenant_id
        root = self._tracer.new_root(submission.traceparent, submission.tracestate)
        token: tuple[str, str] | None = None
        if submission.client_token:
            # A token of the fleet's own (a chain, a source) never meets one that a caller made up.
            is_own = submission.from_fleet and (submission.lineage is not None or submission.source != "grpc")
            kind = "fleet" if is_own else "token"
            if target.tenant_id != submission.caller.tenant_id:
                # Nor does another tenant's, which may invoke the function, meet one of its owner's.
                kind = f"{kind}@{submission.caller.tenant_id}"
            token = (kind, submission.client_token)
        self._accepter.submit(
            ticket,
            index,
            target,
            submission.payload,
            root,
            source=submission.source,
            token=token,
            lineage=submission.lineage,
        )

    def finish(self, ticket: Ticket, submissions: list[Submission], door: str) -> None:
        """Count and end the spans of a ticket that is all answered."""
        errors = ticket.errors or {}
        # A batch is mostly of one function: counted here, told once a function.
        received: dict[tuple[str, str], int] = {}
        for index, submission in enumerate(submissions):
            if index not in errors:
                key = (submission.tenant_id, submission.function_name)
                received[key] = received.get(key, 0) + 1
        for (tenant_id, function_name), events in received.items():
            self._telemetry.count_received(tenant_id, function_name, events)
        for index, error in errors.items():
            request_id = ticket.request_ids[index]
            text = ids.to_text(request_id) if request_id else ""
            self._telemetry.refused(error, door, text, submissions[index].tenant_id)
        if ticket.spans is not None:
            self._end_spans(ticket, ticket.spans)

    def _end_spans(self, ticket: Ticket, spans: dict[int, Span]) -> None:
        for index, span in spans.items():
            request_id, error = ticket.request_ids[index], ticket.error(index)
            if request_id:
                span.set_attribute("faas.invocation_id", ids.to_text(request_id))
                span.set_attribute("evenflow.shard_id", ids.shard_of(request_id))
            self._tracer.end(span, None if error is None else error.message)


def _check_extras(submission: Submission) -> None:
    limit = validation.MAX_FLEET_TOKEN_CHARACTERS if submission.from_fleet else validation.MAX_CLIENT_TOKEN_CHARACTERS
    try:
        validation.check_client_token(submission.client_token, limit)
    except ValueError as e:
        raise invalid(str(e), field="client_token") from None
    if submission.lineage is not None and submission.lineage.chain_depth > validation.MAX_CHAIN_DEPTH:
        raise invalid(f"chain_depth is over {validation.MAX_CHAIN_DEPTH}: this chain has to stop", field="lineage")
    if len(submission.source.encode()) > validation.MAX_SOURCE_BYTES:
        raise invalid(f"source is over {validation.MAX_SOURCE_BYTES} bytes", field="source")
