"""Calls of tenants."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls
from services.control.changes import Change
from services.control.tenants import decide_put_tenant


class TenantCalls(Calls):
    """See the contract for each."""

    async def PutTenant(self, request: control_pb2.PutTenantRequest, context: Any) -> control_pb2.PutTenantResponse:
        """See the contract."""
        return await self._change(context, "control.put_tenant", "", self._decide_put_tenant, request)

    def _decide_put_tenant(
        self, change: Change, request: control_pb2.PutTenantRequest
    ) -> control_pb2.PutTenantResponse:
        return decide_put_tenant(change, request.tenant, self._parts.state)
