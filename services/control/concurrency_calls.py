"""Calls of reserved and provisioned concurrency."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls


class ConcurrencyCalls(Calls):
    """See the contract for each."""

    async def PutConcurrency(
        self, request: control_pb2.PutConcurrencyRequest, context: Any
    ) -> control_pb2.PutConcurrencyResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_concurrency", request.function_name, self._parts.concurrency.decide_reserve, request
        )

    async def PutProvisioned(
        self, request: control_pb2.PutProvisionedRequest, context: Any
    ) -> control_pb2.PutProvisionedResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_provisioned", request.function_name, self._parts.concurrency.decide_provision, request
        )

    async def ReadProvisioned(
        self, request: control_pb2.ReadProvisionedRequest, context: Any
    ) -> control_pb2.ReadProvisionedResponse:
        """See the contract."""
        return await self._read(context, self._parts.concurrency.read, request)
