"""The gRPC face of a poller: to be watched and paused; translates, and nothing else."""

from collections.abc import Callable, Iterable
from typing import Any

from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc

from services.poller.limits import Limits
from services.shared.errors import abort, invalid

MAX_DESCRIBED_SOURCES = 10_000


class PollerService(poller_pb2_grpc.PollerServiceServicer):
    """See protos/evenflow/poller/v1/poller.proto."""

    def __init__(
        self,
        *,
        poller_id: str,
        limits: Limits,
        leases_held: Callable[[], int],
        invocations_in_flight: Callable[[], int],
        deliveries_in_flight: Callable[[], int],
        sources: Callable[[], Iterable[poller_pb2.SourceDescription]],
    ) -> None:
        self._poller_id = poller_id
        self._limits = limits
        self._leases_held = leases_held
        self._invocations_in_flight = invocations_in_flight
        self._deliveries_in_flight = deliveries_in_flight
        self._sources = sources

    async def DescribePoller(
        self, request: poller_pb2.DescribePollerRequest, context: Any
    ) -> poller_pb2.DescribePollerResponse:
        """Describes the poller: what it holds and the sources it runs."""
        return poller_pb2.DescribePollerResponse(
            poller_id=self._poller_id,
            leases_held=self._leases_held(),
            invocations_in_flight=self._invocations_in_flight(),
            deliveries_in_flight=self._deliveries_in_flight(),
            sources=list(self._sources())[:MAX_DESCRIBED_SOURCES],
            paused_functions=[
                poller_pb2.PausedFunction(tenant_id=tenant_id, function_name=name)
                for tenant_id, name in self._limits.paused
            ],
        )

    async def PauseFunction(
        self, request: poller_pb2.PauseFunctionRequest, context: Any
    ) -> poller_pb2.PauseFunctionResponse:
        """Stops or resumes leasing the events of a function at this poller. INVALID_PARAMETER."""
        if not request.tenant_id or not request.function_name:
            await abort(context, invalid("tenant_id and function_name are both needed"))
        try:
            self._limits.pause((request.tenant_id, request.function_name), request.paused)
        except ValueError as e:
            await abort(context, invalid(str(e)))
        return poller_pb2.PauseFunctionResponse()
