"""Calls of tenants, their keys and what they have."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls


class TenantCalls(Calls):
    """See the contract for each."""

    async def PutTenant(self, request: control_pb2.PutTenantRequest, context: Any) -> control_pb2.PutTenantResponse:
        """See the contract."""
        return await self._change(context, "control.put_tenant", "", self._parts.tenants.decide_put, request)

    async def ListTenants(
        self, request: control_pb2.ListTenantsRequest, context: Any
    ) -> control_pb2.ListTenantsResponse:
        """See the contract."""
        return await self._read(context, self._parts.tenants.page, request)

    async def DeleteTenant(
        self, request: control_pb2.DeleteTenantRequest, context: Any
    ) -> control_pb2.DeleteTenantResponse:
        """See the contract."""
        return await self._change(context, "control.delete_tenant", "", self._parts.tenants.decide_delete, request)

    async def CreateAccessKey(
        self, request: control_pb2.CreateAccessKeyRequest, context: Any
    ) -> control_pb2.CreateAccessKeyResponse:
        """See the contract."""
        return await self._change(
            context, "control.create_access_key", "", self._parts.tenants.decide_create_key, request
        )

    async def DeleteAccessKey(
        self, request: control_pb2.DeleteAccessKeyRequest, context: Any
    ) -> control_pb2.DeleteAccessKeyResponse:
        """See the contract."""
        return await self._change(
            context, "control.delete_access_key", "", self._parts.tenants.decide_delete_key, request
        )

    async def GetAccount(self, request: control_pb2.GetAccountRequest, context: Any) -> control_pb2.GetAccountResponse:
        """See the contract."""
        return await self._read(context, self._parts.account.read, request)
