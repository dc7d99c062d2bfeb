"""Calls of what belongs to a function: policy, tags, URLs, recursion; and of layers."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls


class BelongingCalls(Calls):
    """See the contract for each."""

    async def AddPermission(
        self, request: control_pb2.AddPermissionRequest, context: Any
    ) -> control_pb2.AddPermissionResponse:
        """See the contract."""
        return await self._change(
            context, "control.add_permission", request.function_name, self._parts.permissions.decide_add, request
        )

    async def RemovePermission(
        self, request: control_pb2.RemovePermissionRequest, context: Any
    ) -> control_pb2.RemovePermissionResponse:
        """See the contract."""
        return await self._change(
            context, "control.remove_permission", request.function_name, self._parts.permissions.decide_remove, request
        )

    async def ChangeTags(self, request: control_pb2.ChangeTagsRequest, context: Any) -> control_pb2.ChangeTagsResponse:
        """See the contract."""
        return await self._change(
            context, "control.change_tags", request.function_name, self._parts.belongings.decide_tags, request
        )

    async def PutUrl(self, request: control_pb2.PutUrlRequest, context: Any) -> control_pb2.PutUrlResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_url", request.function_name, self._parts.belongings.decide_put_url, request
        )

    async def DeleteUrl(self, request: control_pb2.DeleteUrlRequest, context: Any) -> control_pb2.DeleteUrlResponse:
        """See the contract."""
        return await self._change(
            context, "control.delete_url", request.function_name, self._parts.belongings.decide_delete_url, request
        )

    async def PutRecursion(
        self, request: control_pb2.PutRecursionRequest, context: Any
    ) -> control_pb2.PutRecursionResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_recursion", request.function_name, self._parts.belongings.decide_recursion, request
        )

    async def PublishLayer(
        self, request: control_pb2.PublishLayerRequest, context: Any
    ) -> control_pb2.PublishLayerResponse:
        """See the contract."""
        return await self._change(context, "control.publish_layer", "", self._parts.layers.decide_publish, request)

    async def GetLayer(self, request: control_pb2.GetLayerRequest, context: Any) -> control_pb2.GetLayerResponse:
        """See the contract."""
        return await self._read(context, self._parts.layers.read, request)

    async def ListLayers(self, request: control_pb2.ListLayersRequest, context: Any) -> control_pb2.ListLayersResponse:
        """See the contract."""
        return await self._read(context, self._parts.layers.page, request)

    async def DeleteLayer(
        self, request: control_pb2.DeleteLayerRequest, context: Any
    ) -> control_pb2.DeleteLayerResponse:
        """See the contract."""
        return await self._change(context, "control.delete_layer", "", self._parts.layers.decide_delete, request)
