"""A runtime host without sandboxes, over real gRPC: a test says what each invocation answers.

tests/contract/runtime holds its Invoke and the real host's to the same suite; it serves no other call.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from services.shared import ids
from services.shared.channels import GrpcServer
from services.shared.errors import EvenflowError, Reason, invalid
from services.shared.streams import Wakeup, serve_stream

MAX_PAYLOAD_BYTES = 6_291_456


def echo(invocation: runtime_pb2.Invocation) -> event_pb2.Outcome | None:
    """The payload comes back."""
    return event_pb2.Outcome(
        status=event_pb2.OUTCOME_STATUS_SUCCEEDED,
        response_payload=invocation.payload,
        executed_version="$LATEST",
        log_tail=b"START\nEND\n" if invocation.wants_log_tail else b"",
    )


class _Stream:
    """One caller's stream: its answers, and its invocations that are still open."""

    def __init__(self) -> None:
        self.answers: deque[runtime_pb2.InvokeResponse] = deque()
        self.wakeup = Wakeup()
        self.open: set[int] = set()
        self.said_hello = False
        self.credit = 0

    def end(self, invocation_id: int, outcome: event_pb2.Outcome) -> None:
        """Its outcome, and its credit back."""
        self.open.discard(invocation_id)
        result = runtime_pb2.InvocationResult(invocation_id=invocation_id, outcome=outcome)
        self.answer(runtime_pb2.InvokeResponse(results=[result], credit_invocations=1))

    def produce(self) -> runtime_pb2.InvokeResponse | None:
        """The next message; its credit counts from now on."""
        if not self.answers:
            return None
        response = self.answers.popleft()
        self.credit += response.credit_invocations
        return response

    def answer(self, response: runtime_pb2.InvokeResponse) -> None:
        """Send it."""
        self.answers.append(response)
        self.wakeup.set()


# Any: a fake serves only a part of the contract, and the stubs know no asyncio coroutines.
_Servicer: Any = runtime_pb2_grpc.RuntimeServiceServicer


class FakeRuntimeHost(_Servicer):  # type: ignore[misc]
    """behave: invocation -> outcome, or None to keep it open. cut_after_receive: break the stream instead."""

    def __init__(self, path: Path, token: str, host_id: str = "runtime-0", credit: int = 100) -> None:
        self.path, self.token, self.host_id, self.credit = path, token, host_id, credit
        self.behave: Callable[[runtime_pb2.Invocation], event_pb2.Outcome | None] = echo
        self.cut_after_receive = False
        self.seen: list[runtime_pb2.Invocation] = []
        self._streams: list[_Stream] = []
        self._server: GrpcServer | None = None

    @property
    def callers(self) -> int:
        """Streams that are open now."""
        return len(self._streams)

    @property
    def address(self) -> str:
        """The target to dial."""
        return f"unix:{self.path}"

    async def start(self) -> None:
        """Serve."""
        self._server = GrpcServer(self.token, ["evenflow.runtime.v1.RuntimeService"])
        runtime_pb2_grpc.add_RuntimeServiceServicer_to_server(self, self._server.server)
        self._server.bind(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Break every stream."""
        if self._server is not None:
            await self._server.stop(0)

    def finish(self, invocation_id: int, outcome: event_pb2.Outcome) -> None:
        """End an invocation that was kept open; its credit goes back. One whose caller has gone is passed over."""
        for stream in self._streams:
            if invocation_id in stream.open:
                stream.end(invocation_id, outcome)
                return

    def grant(self, invocations: int) -> None:
        """More credit for every caller."""
        for stream in self._streams:
            stream.answer(runtime_pb2.InvokeResponse(credit_invocations=invocations))

    async def Invoke(self, _requests: Any, context: Any) -> None:
        """See the proto."""
        stream = _Stream()
        self._streams.append(stream)

        def on_message(request: runtime_pb2.InvokeRequest) -> None:
            if request.HasField("hello"):
                load = runtime_pb2.HostLoad(slots=self.credit)
                stream.said_hello = True
                stream.answer(runtime_pb2.InvokeResponse(load=load, credit_invocations=self.credit))
                return
            if not request.HasField("batch") or not stream.said_hello:
                raise invalid("the first message is hello, then batches")
            for invocation in request.batch.invocations:
                self._take(stream, invocation)

        try:
            await serve_stream(
                context,
                on_message=on_message,
                produce=stream.produce,
                wakeup=stream.wakeup,
            )
        finally:
            self._streams.remove(stream)

    def _take(self, stream: _Stream, invocation: runtime_pb2.Invocation) -> None:
        self.seen.append(invocation)
        if self.cut_after_receive:
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "cut by the test")
        refusal = _refusal_of(stream, invocation)
        stream.credit -= 1
        if refusal is not None:
            outcome = event_pb2.Outcome(
                status=event_pb2.OUTCOME_STATUS_SYSTEM_ERROR,
                error_type=refusal.kind.aws_code,
                error_message=refusal.message,
                refusal=refusal.to_detail(),
            )
            stream.end(invocation.invocation_id, outcome)
            return
        stream.open.add(invocation.invocation_id)
        played = self.behave(invocation)
        if played is not None:
            self.finish(invocation.invocation_id, played)


def _refusal_of(stream: _Stream, invocation: runtime_pb2.Invocation) -> EvenflowError | None:
    if stream.credit <= 0:
        return EvenflowError(Reason.ERROR_REASON_CREDIT_EXCEEDED, "more invocations than the host granted", 100)
    if not invocation.invocation_id or len(invocation.request_id) != ids.REQUEST_ID_BYTES:
        return invalid("invocation_id is not 0 and request_id has 16 bytes")
    if len(invocation.payload) > MAX_PAYLOAD_BYTES:
        return invalid(f"at most {MAX_PAYLOAD_BYTES} bytes of payload are possible")
    return None
