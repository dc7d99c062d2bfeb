"""What a mapping hears of a run that a frontend refused, and of one whose frontend is lost."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.control.v1 import resources_pb2

from services.poller.sources.invoker import Call, Invoker, may_help, nothing_ran
from services.shared.channels import GrpcServer, Peer
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason, abort

R = Reason
Refuse = Callable[[Any], Awaitable[Any]]


async def refused(run_dir: Path, refuse: Refuse) -> EvenflowError:
    """The error of one run, by a frontend that ends the call in this way."""

    async def invoke(_request: Any, context: Any) -> None:
        await refuse(context)

    server = GrpcServer(None, [])
    handlers: dict[str, Any] = {"Invoke": grpc.unary_unary_rpc_method_handler(invoke)}
    service = "evenflow.frontend.v1.FrontendService"
    server.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    address = f"unix:{run_dir}/frontend.sock"
    server.bind(address)
    await server.start()
    view = ConfigView()
    member = resources_pb2.Member(
        node_id="frontend-0",
        role=resources_pb2.NODE_ROLE_FRONTEND,
        state=resources_pb2.MEMBER_STATE_ALIVE,
        address=address,
    )
    view.upsert(resources_pb2.Resource(key="member/frontend-0", member=member))
    peer = Peer.dial(address, "t" * 32)
    try:
        with pytest.raises(EvenflowError) as caught:
            await Invoker(lambda: view, lambda _: peer).invoke(Call("default", "f", "", b"{}", 1_000))
        return caught.value
    finally:
        await peer.channel.close()
        await server.server.stop(0)


async def test_the_word_of_a_frontend_is_trusted_a_lost_connection_is_not(run_dir: Path) -> None:
    """UNAVAILABLE by a frontend: nothing ran, try again; by the connection: it may have run."""

    async def says(context: Any) -> None:
        await abort(context, EvenflowError(R.ERROR_REASON_UNAVAILABLE, "try again"))

    async def breaks(context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "socket closed")

    told = await refused(run_dir, says)
    assert told.reason == R.ERROR_REASON_UNAVAILABLE and nothing_ran(told) and may_help(told)
    lost = await refused(run_dir, breaks)
    assert lost.reason == R.ERROR_REASON_OUTCOME_UNKNOWN and not nothing_ran(lost) and not may_help(lost)


def test_a_refusal_for_good_ran_nothing_and_is_not_repeated() -> None:
    """Of a function that is not there; an error that may have come in the middle is neither."""
    gone = EvenflowError(R.ERROR_REASON_FUNCTION_NOT_FOUND, "gone")
    assert nothing_ran(gone) and not may_help(gone)
    broken = EvenflowError(R.ERROR_REASON_INTERNAL, "the host broke away")
    assert not nothing_ran(broken) and not may_help(broken)
