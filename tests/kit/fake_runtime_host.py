"""A runtime host without sandboxes, over real gRPC: a test says what each invocation answers."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from services.shared.channels import GrpcServer
from services.shared.errors import EvenflowError, Reason
from services.shared.streams import Wakeup, serve_stream


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
                stream.open.discard(invocation_id)
                result = runtime_pb2.InvocationResult(invocation_id=invocation_id, outcome=outcome)
                stream.answer(runtime_pb2.InvokeResponse(results=[result], credit_invocations=1))
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
                stream.answer(runtime_pb2.InvokeResponse(load=load, credit_invocations=self.credit))
            for invocation in request.batch.invocations:
                self.seen.append(invocation)
                if self.cut_after_receive:
                    raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "cut by the test")
                stream.open.add(invocation.invocation_id)
                outcome = self.behave(invocation)
                if outcome is not None:
                    self.finish(invocation.invocation_id, outcome)

        try:
            await serve_stream(
                context,
                on_message=on_message,
                produce=lambda: stream.answers.popleft() if stream.answers else None,
                wakeup=stream.wakeup,
            )
        finally:
            self._streams.remove(stream)
