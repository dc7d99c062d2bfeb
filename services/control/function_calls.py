"""Calls of functions, their versions and aliases, and how their async events are treated."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls


class FunctionCalls(Calls):
    """See the contract for each."""

    async def PutFunction(
        self, request: control_pb2.PutFunctionRequest, context: Any
    ) -> control_pb2.PutFunctionResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_function", request.function.function_name, self._parts.functions.decide_put, request
        )

    async def GetFunction(
        self, request: control_pb2.GetFunctionRequest, context: Any
    ) -> control_pb2.GetFunctionResponse:
        """See the contract."""
        return await self._read(context, self._parts.functions.read, request)

    async def ListFunctions(
        self, request: control_pb2.ListFunctionsRequest, context: Any
    ) -> control_pb2.ListFunctionsResponse:
        """See the contract."""
        return await self._read(context, self._parts.functions.page, request)

    async def CreateFunction(
        self, request: control_pb2.CreateFunctionRequest, context: Any
    ) -> control_pb2.CreateFunctionResponse:
        """See the contract."""
        return await self._change(
            context,
            "control.create_function",
            request.function.function_name,
            self._parts.functions.decide_create,
            request,
        )

    async def UpdateFunction(
        self, request: control_pb2.UpdateFunctionRequest, context: Any
    ) -> control_pb2.UpdateFunctionResponse:
        """See the contract."""
        return await self._change(
            context, "control.update_function", request.function_name, self._parts.functions.decide_update, request
        )

    async def DeleteFunction(
        self, request: control_pb2.DeleteFunctionRequest, context: Any
    ) -> control_pb2.DeleteFunctionResponse:
        """See the contract."""
        return await self._change(
            context, "control.delete_function", request.function_name, self._parts.functions.decide_delete, request
        )

    async def PublishVersion(
        self, request: control_pb2.PublishVersionRequest, context: Any
    ) -> control_pb2.PublishVersionResponse:
        """See the contract."""
        return await self._change(
            context, "control.publish_version", request.function_name, self._parts.versions.decide_publish, request
        )

    async def PutAlias(self, request: control_pb2.PutAliasRequest, context: Any) -> control_pb2.PutAliasResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_alias", request.function_name, self._parts.aliases.decide_put, request
        )

    async def DeleteAlias(
        self, request: control_pb2.DeleteAliasRequest, context: Any
    ) -> control_pb2.DeleteAliasResponse:
        """See the contract."""
        return await self._change(
            context, "control.delete_alias", request.function_name, self._parts.aliases.decide_delete, request
        )

    async def PutAsyncConfig(
        self, request: control_pb2.PutAsyncConfigRequest, context: Any
    ) -> control_pb2.PutAsyncConfigResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_async_config", request.function_name, self._parts.async_configs.decide_put, request
        )

    async def DeleteAsyncConfig(
        self, request: control_pb2.DeleteAsyncConfigRequest, context: Any
    ) -> control_pb2.DeleteAsyncConfigResponse:
        """See the contract."""
        return await self._change(
            context,
            "control.delete_async_config",
            request.function_name,
            self._parts.async_configs.decide_delete,
            request,
        )
