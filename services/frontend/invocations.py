"""Synchronous invocations and event status: the slow path of both doors."""

from collections.abc import Callable

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.queue.v1 import queue_pb2
from evenflow.runtime.v1 import runtime_pb2
from opentelemetry.trace import SpanKind

from services.frontend.queue_fleet import QueueFleet
from services.frontend.runtime_fleet import RuntimeFleet
from services.frontend.submissions import check_payload, draining
from services.frontend.targets import Target, Targets
from services.frontend.telemetry import Telemetry
from services.policy import validation
from services.policy.arns import LATEST
from services.policy.lineage import is_stopped
from services.policy.permissions import Caller, Resource, why_not
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.tracing import Tracer

GET_EVENT_TIMEOUT_SECONDS = 5.0
# Ours: the Lambda API has no such action.
GET_EVENT = "evenflow:GetEvent"
_THROTTLE_REASONS = (Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED, Reason.ERROR_REASON_CONCURRENCY_EXCEEDED)


class Invocations:
    """Runs functions for callers that wait, and looks events up."""

    def __init__(
        self,
        targets: Targets,
        runtimes: RuntimeFleet,
        queues: QueueFleet,
        clock: Clock,
        tracer: Tracer,
        telemetry: Telemetry,
        draw: Callable[[], float],
    ) -> None:
        """`draw`: 0.0 to below 1.0, uniform; which version runs where an alias splits its traffic."""
        self._draw = draw
        self._targets = targets
        self._runtimes = runtimes
        self._queues = queues
        self._clock = clock
        self._tracer = tracer
        self._telemetry = telemetry
        self.is_draining = False

    async def check(
        self, caller: Caller, name: str, qualifier: str, payload: bytes, limit: int, kind: str
    ) -> tuple[Target, bytes]:
        """Everything that is checked before anything runs: function, permission, size, JSON."""
        if self.is_draining:
            raise draining()
        payload = check_payload(payload, limit, kind)
        return await self._targets.ask(caller, name, qualifier), payload

    async def invoke(
        self,
        request_id: bytes,
        caller: Caller,
        name: str,
        qualifier: str,
        payload: bytes,
        *,
        client_context: str = "",
        wants_log_tail: bool = False,
        traceparent: str = "",
        tracestate: str = "",
        lineage: event_pb2.Lineage | None = None,
    ) -> event_pb2.Outcome:
        """Run a function and wait. EvenflowError for every refusal; a handler's own error is in the outcome."""
        start_ns = self._clock.wall_ns()
        limit = validation.MAX_SYNC_PAYLOAD_BYTES
        target, payload = await self.check(caller, name, qualifier, payload, limit, "RequestResponse")
        if lineage is not None:
            self._check_chain(target, lineage)
        root = self._tracer.new_root(traceparent, tracestate)
        span = self._tracer.start(
            "frontend.invoke",
            root,
            kind=SpanKind.SERVER,
            attributes={
                "faas.name": target.function_name,
                "faas.invocation_id": ids.to_text(request_id),
                "evenflow.tenant_id": target.tenant_id,
            },
            start_ns=start_ns,
        )
        version = target.choose(self._draw())
        invocation = runtime_pb2.Invocation(
            tenant_id=target.tenant_id,
            function_name=target.function_name,
            version=version.version or LATEST,
            function_revision=target.view.function.revision,
            request_id=request_id,
            payload=payload,
            client_context=client_context,
            trace=self._tracer.context_of(span, root),
            attempt=1,
            kind=runtime_pb2.INVOCATION_KIND_SYNC,
            wants_log_tail=wants_log_tail,
            invoked_function_arn=target.arn,
            lineage=lineage,
        )
        failure: str | None = "cancelled by the caller"
        try:
            outcome = await self._runtimes.run(invocation, version.timeout_ms)
            outcome.executed_version = outcome.executed_version or invocation.version
            self._raise_refusal(outcome, target)
            failure = outcome.error_type or None
            return outcome
        except EvenflowError as e:
            failure = e.message
            raise
        finally:
            self._tracer.end(span, failure)

    async def get_event(self, caller: Caller, request_id: bytes) -> queue_pb2.EventStatus:
        """The state of one event of the caller's tenant.

        EvenflowError: INVALID_PARAMETER, EVENT_NOT_FOUND, SHARD_UNAVAILABLE; ACCESS_DENIED: a function that may not.
        """
        refusal = why_not(caller, GET_EVENT, Resource(caller.tenant_id, "*"))
        if refusal is not None:
            raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, refusal)
        try:
            shard_id = ids.shard_of(request_id)
        except ValueError as e:
            raise invalid(str(e), field="request_id") from None
        node = self._queues.node_of(shard_id)
        if node is None:
            if shard_id >= self._queues.shard_count:
                raise EvenflowError(Reason.ERROR_REASON_EVENT_NOT_FOUND, f"no event {ids.to_text(request_id)}")
            raise EvenflowError(
                Reason.ERROR_REASON_SHARD_UNAVAILABLE, f"the owner of shard {shard_id} is not known: try again", 1_000
            )
        try:
            answer = await node.stub.GetEvent(
                queue_pb2.GetEventRequest(tenant_id=caller.tenant_id, request_id=request_id),
                timeout=GET_EVENT_TIMEOUT_SECONDS,
                metadata=node.metadata,
            )
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None
        return answer.status

    def _check_chain(self, target: Target, lineage: event_pb2.Lineage) -> None:
        if is_stopped(lineage.chain_depth, allows_recursion=target.view.function.allows_recursion):
            self._telemetry.recursion_stopped(target.function_name, target.tenant_id)
            raise EvenflowError(
                Reason.ERROR_REASON_RECURSION_STOPPED,
                f"{target.function_name} is called in a chain of {lineage.chain_depth} invocations, and stopped; "
                "PutFunctionRecursionConfig allows it to go on",
            )

    def _raise_refusal(self, outcome: event_pb2.Outcome, target: Target) -> None:
        if outcome.status == event_pb2.OUTCOME_STATUS_THROTTLED:
            self._telemetry.throttles.add(1, function=target.function_name, tenant=target.tenant_id)
            error = EvenflowError.from_detail(outcome.refusal)
            if error.reason not in _THROTTLE_REASONS:
                error.reason = Reason.ERROR_REASON_CONCURRENCY_EXCEEDED
            error.message = error.message or "the function runs as often at once as it may"
            raise error
        if outcome.status == event_pb2.OUTCOME_STATUS_SYSTEM_ERROR:
            error = EvenflowError.from_detail(outcome.refusal)
            if error.reason == Reason.ERROR_REASON_UNSPECIFIED:
                error.reason = Reason.ERROR_REASON_INTERNAL
            if error.reason == Reason.ERROR_REASON_CREDIT_EXCEEDED:
                error.reason = Reason.ERROR_REASON_NO_CAPACITY
            error.message = error.message or outcome.error_message or "the runtime host could not run the function"
            raise error
