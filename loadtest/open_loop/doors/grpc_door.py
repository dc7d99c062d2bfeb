"""Unary calls of the gRPC door, one an event, on one channel; requests are serialised ahead."""

import asyncio
from typing import Any

import grpc
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2

from loadtest.open_loop.outcomes import CONNECTION, Outcomes
from loadtest.open_loop.spec import LoadSpec
from loadtest.workloads.work import is_asked
from services.shared import ids
from services.shared.errors import EvenflowError, Reason, has_detail

# A door that is gone is tried again this soon; against its name the second one bounds an attempt to connect.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", 8 << 20),
)
CONNECT_SECONDS = 2.0
_SERVICE = "/evenflow.frontend.v1.FrontendService/"
_REASON_PREFIX = "ERROR_REASON_"
Metadata = tuple[tuple[str, str], ...]


class GrpcDoor:
    """See Door."""

    def __init__(self, spec: LoadSpec, in_flight: int, outcomes: Outcomes) -> None:
        self._spec = spec
        self._most = in_flight
        self._outcomes = outcomes
        self._metadata = [metadata_of(key) for key in spec.keys]
        self._calls: set[asyncio.Task[None]] = set()
        self._channel = grpc.aio.insecure_channel(f"{spec.host}:{spec.grpc_port}", options=CHANNEL_OPTIONS)
        # Bytes in and out: protobuf is done ahead, and answers are read where somebody wants to know.
        method = "Invoke" if spec.synchronous else "InvokeAsync"
        self._method: Any = self._channel.unary_unary(_SERVICE + method)

    async def open(self) -> None:
        """Connected, when the door is there."""
        await connect(self._channel)

    def request(self, tenant: int, payload: bytes) -> bytes:
        """The serialised message."""
        if self._spec.synchronous:
            invoke = frontend_pb2.InvokeRequest(function_name=self._spec.function, payload=payload)
            return bytes(invoke.SerializeToString())
        event = frontend_pb2.EventSubmission(function_name=self._spec.function, payload=payload)
        return bytes(frontend_pb2.InvokeAsyncRequest(event=event).SerializeToString())

    def send(self, place: int, tenant: int, request: bytes) -> bool:
        """One call of its own."""
        if len(self._calls) >= self._most:
            return False
        self._outcomes.sent(place)
        metadata = self._metadata[tenant] if tenant < len(self._metadata) else ()
        task = asyncio.get_running_loop().create_task(self._call(place, metadata, request))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    def expire(self, now_ns: int) -> None:
        """Nothing: each call has its deadline."""

    async def close(self) -> None:
        """End all calls."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._channel.close()

    async def _call(self, place: int, metadata: Metadata, request: bytes) -> None:
        try:
            answer = await self._method(request, metadata=metadata, timeout=self._spec.answer_seconds)
        except grpc.aio.AioRpcError as e:
            if e.code() == grpc.StatusCode.DEADLINE_EXCEEDED and not has_detail(e):
                self._outcomes.unanswered(place)
            else:
                self._outcomes.refused(place, refusal_of(e))
            return
        if self._spec.synchronous:
            outcome = frontend_pb2.InvokeResponse.FromString(answer).outcome
            if outcome.HasField("refusal"):
                self._outcomes.refused(place, reason_name(outcome.refusal.reason))
            elif outcome.status == event_pb2.OUTCOME_STATUS_UNSPECIFIED:
                self._outcomes.refused(place, "no outcome")
            elif outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED and not is_asked(outcome.error_type):
                self._outcomes.failed(place)
            else:
                self._outcomes.accepted(place)
        elif self._outcomes.accepted(place):
            found = frontend_pb2.InvokeAsyncResponse.FromString(answer)
            self._outcomes.remember(place, ids.to_text(found.request_id))


async def connect(channel: grpc.aio.Channel) -> None:
    """Try to, for CONNECT_SECONDS."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await channel.channel_ready()
    except TimeoutError:
        pass


def metadata_of(key: str) -> Metadata:
    """What names the tenant of a key ("ID:SECRET") to the gRPC door, and proves it."""
    return (("authorization", f"Bearer {key}"),)


def reason_name(reason: int) -> str:
    """As refusals are counted: FUNCTION_NOT_FOUND; the number of one that is not known here."""
    try:
        return Reason.Name(reason).removeprefix(_REASON_PREFIX)  # type: ignore[arg-type]
    except ValueError:
        return str(reason)


def refusal_of(error: grpc.aio.AioRpcError) -> str:
    """The door's own reason, or that there was no door."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) and not has_detail(error):
        return CONNECTION
    return reason_name(EvenflowError.from_rpc_error(error).reason)
