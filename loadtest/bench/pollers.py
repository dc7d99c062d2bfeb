"""Has a fleet's pollers leave a function's events in the queue for a while."""

from collections.abc import Iterable, Sequence
from typing import Any

from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc

from services.shared.channels import Peer

_CALL_SECONDS = 10.0


async def pause(pollers: Iterable[Peer], tenants: Sequence[str], function_name: str, paused: bool) -> None:
    """Have every poller leave these tenants' events in the queue, or take them again. grpc.aio.AioRpcError: refused."""
    for peer in pollers:
        stub: Any = poller_pb2_grpc.PollerServiceStub(peer.channel)
        for tenant_id in tenants:
            request = poller_pb2.PauseFunctionRequest(tenant_id=tenant_id, function_name=function_name, paused=paused)
            await stub.PauseFunction(request, metadata=peer.metadata, timeout=_CALL_SECONDS)
