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


# Any: a fake serves only a part of the contract, and the stubs know no asyncio coroutines.
_Servicer: Any = runtime_pb2_grpc.RuntimeServiceServicer


class FakeRuntimeHost(_Servicer):  # type: ignore[misc]
    """behave: invocation -> outcome, or None to keep it open. cut_after_receive: break the stream instead."""

    def __init__(self, path: Path, token: str, host_id: str = "runtime-0", credit: int = 100) -> None:
        self.path, self.token, self.host_id, self.credit = path, token, host_id, credit
        self.behave: Callable[[runtime_pb2.Invocation], event_pb2.Outcome | None] = echo
        self.cut_after_receive = False
        self.seen: list[runtime_pb2.Invocation] = []
        self._answers: deque[runtime_pb2.InvokeResponse] = deque()
        self._wakeup = Wakeup()
        self._server: GrpcServer | None = None

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
        """End an invocation that was kept open; its credit goes back."""
        self._answers.append(
            runtime_pb2.InvokeResponse(
                results=[runtime_pb2.InvocationResult(invocation_id=invocation_id, outcome=outcome)],
                credit_invocations=1,
            )
        )
        self._wakeup.set()

    def grant(self, invocations: int) -> None:
        """More credit."""
        self._answers.append(runtime_pb2.InvokeResponse(credit_invocations=invocations))
        self._wakeup.set()

    async def Invoke(self, _requests: Any, context: Any) -> None:
        """See the proto."""
        self._answers.clear()

        def on_message(request: runtime_pb2.InvokeRequest) -> None:
            if request.HasField("hello"):
                self._answers.append(runtime_pb2.InvokeResponse(load=runtime_pb2.HostLoad(slots=self.credit)))
                self.grant(self.credit)
            for invocation in request.batch.invocations:
                self.seen.append(invocation)
                if self.cut_after_receive:
                    raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "cut by the test")
                outcome = self.behave(invocation)
                if outcome is not None:
                    self.finish(invocation.invocation_id, outcome)

        await serve_stream(
            context,
            on_message=on_message,
            produce=lambda: self._answers.popleft() if self._answers else None,
            wakeup=self._wakeup,
        )
