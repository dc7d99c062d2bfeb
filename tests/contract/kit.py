"""Words of every contract suite: refusals of calls and streams, and an end of a service to talk to."""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from evenflow.common.v1 import errors_pb2

from services.shared.channels import TOKEN_KEY, Peer
from services.shared.errors import EvenflowError, has_detail
from tests.contract.clients import TODAY, Stub

WITHIN_SECONDS = 20.0


@dataclass
class End:
    """A service that serves: real or a fake, seen by one client."""

    service: str
    peer: Peer
    client: str = TODAY
    # What a test may look at beside the answers.
    has: Any = None
    kind: str = "real"

    def __post_init__(self) -> None:
        self.stub = Stub(self.peer.channel, self.service, self.client)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The fleet's token."""
        return self.peer.metadata

    def seen_by(self, client: str) -> "End":
        """The same service, as another client sees it."""
        return End(self.service, self.peer, client, self.has, self.kind)

    async def ask(self, method: str, request: Any, **more: Any) -> Any:
        """A unary call; EvenflowError when it is refused."""
        try:
            call = getattr(self.stub, method)
            return await call(request, **{"metadata": self.metadata, "timeout": WITHIN_SECONDS, **more})
        except grpc.aio.AioRpcError as e:
            raise typed(e) from None

    def open(self, method: str, **more: Any) -> Any:
        """A stream that the caller writes to."""
        return getattr(self.stub, method)(metadata=self.metadata, timeout=WITHIN_SECONDS, **more)


def dial(target: str, token: str) -> Peer:
    """A channel that sends also what is too large for the other end."""
    channel = grpc.aio.insecure_channel(target, options=[("grpc.max_send_message_length", -1)])
    return Peer(target, channel, ((TOKEN_KEY, token),))


def typed(error: grpc.aio.AioRpcError) -> EvenflowError:
    """The refusal of a failed call. AssertionError: it has no detail of ours, or not the code of its reason."""
    assert has_detail(error), f"not typed: {error.code()} {error.details()}"
    found = EvenflowError.from_rpc_error(error)
    assert error.code() is found.kind.grpc_code
    assert found.message and len(found.message.encode()) <= 1_024 and len(found.metadata) <= 16
    return found


def name_of(error: EvenflowError | errors_pb2.ErrorDetail) -> str:
    """The reason without its prefix."""
    return errors_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_")


async def refusal_of(answer: Any) -> str:
    """The reason of a call that `ask` made; "" when it was answered."""
    try:
        await answer
    except EvenflowError as e:
        return name_of(e)
    return ""


async def read(call: Any) -> Any:
    """The next message of a stream; EOF is none."""
    return await asyncio.wait_for(call.read(), WITHIN_SECONDS)


async def code_of(call: Any) -> grpc.StatusCode:
    """How a stream ended, by gRPC's own word; what it still says is passed over."""
    try:
        while await read(call) is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        # Its status tells more than what failed first.
        pass
    code: grpc.StatusCode = await call.code()
    return code


async def end_of(call: Any) -> str:
    """The same as a reason of ours; "" for a clean end."""
    code = await code_of(call)
    if code is grpc.StatusCode.OK:
        return ""
    return name_of(typed(await error_of(call)))


async def error_of(call: Any) -> grpc.aio.AioRpcError:
    """A call that has failed, as the error that reading it by hand does not always raise."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )
