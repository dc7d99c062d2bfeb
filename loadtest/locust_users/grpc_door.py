"""The gRPC door as the users call it: unary calls of greenlets that share one channel a process."""

from collections.abc import Sequence

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from loadtest.locust_users import gevent_grpc  # noqa: F401  # A channel made without it would hold up the process.
from loadtest.locust_users.answers import Answer, NotTaken, check_error_type
from services.shared.errors import EvenflowError, Reason

Metadata = tuple[tuple[str, str], ...]


class GrpcDoor:
    """Calls one function; every call is bounded by answer_seconds."""

    def __init__(self, address: str, function: str, answer_seconds: float) -> None:
        """`address`: HOST:PORT."""
        self._channel = grpc.insecure_channel(address)
        self._stub = frontend_pb2_grpc.FrontendServiceStub(self._channel)
        self._function = function
        self._answer_seconds = answer_seconds

    def invoke_async(self, payload: bytes, key: str) -> Answer:
        """Accept one event. NotTaken: refused or unanswered."""
        request = frontend_pb2.InvokeAsyncRequest(event=self._event(payload))
        try:
            response = self._stub.InvokeAsync(request, timeout=self._answer_seconds, metadata=_metadata(key))
        except grpc.RpcError as e:
            raise _not_taken(e) from e
        return Answer((response.request_id,), response.ByteSize())

    def invoke(self, payload: bytes, key: str) -> Answer:
        """Run one event and wait for its result. NotTaken: refused or unanswered, or the handler failed by itself."""
        request = frontend_pb2.InvokeRequest(function_name=self._function, payload=payload)
        try:
            response = self._stub.Invoke(request, timeout=self._answer_seconds, metadata=_metadata(key))
        except grpc.RpcError as e:
            raise _not_taken(e) from e
        outcome = response.outcome
        if outcome.HasField("refusal"):
            raise NotTaken(Reason.Name(outcome.refusal.reason))
        if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
            check_error_type(outcome.error_type or "unnamed")
        return Answer(size_bytes=response.ByteSize())

    def publish_batch(self, payloads: Sequence[bytes], key: str) -> Answer:
        """Accept several events of one tenant. NotTaken: refused or unanswered, or any of them was refused."""
        request = frontend_pb2.PublishBatchRequest(events=[self._event(payload) for payload in payloads])
        try:
            response = self._stub.PublishBatch(request, timeout=self._answer_seconds, metadata=_metadata(key))
        except grpc.RpcError as e:
            raise _not_taken(e) from e
        for result in response.results:
            if result.HasField("error"):
                raise NotTaken(f"an event of the batch: {Reason.Name(result.error.reason)}")
        return Answer(tuple(result.request_id for result in response.results), response.ByteSize())

    def get_event(self, request_id: bytes, key: str) -> frontend_pb2.GetEventResponse:
        """The state of an event. NotTaken: the door does not tell."""
        request = frontend_pb2.GetEventRequest(request_id=request_id)
        try:
            return self._stub.GetEvent(request, timeout=self._answer_seconds, metadata=_metadata(key))
        except grpc.RpcError as e:
            raise _not_taken(e) from e

    def close(self) -> None:
        """Hang up."""
        self._channel.close()

    def _event(self, payload: bytes) -> frontend_pb2.EventSubmission:
        return frontend_pb2.EventSubmission(function_name=self._function, payload=payload)


def _metadata(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),) if key else ()


def _not_taken(error: grpc.RpcError) -> NotTaken:
    refusal = EvenflowError.from_rpc_error(error)  # type: ignore[arg-type]  # same methods, no base class
    return NotTaken(Reason.Name(refusal.reason).removeprefix("ERROR_REASON_"))
