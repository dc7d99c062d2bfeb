"""Calls of event sources."""

from typing import Any

from evenflow.control.v1 import control_pb2

from services.control.calls import Calls


class SourceCalls(Calls):
    """See the contract for each."""

    async def PutSource(self, request: control_pb2.PutSourceRequest, context: Any) -> control_pb2.PutSourceResponse:
        """See the contract."""
        return await self._change(
            context, "control.put_source", request.source.function_name, self._parts.sources.decide_put, request
        )

    async def GetSource(self, request: control_pb2.GetSourceRequest, context: Any) -> control_pb2.GetSourceResponse:
        """See the contract."""
        return await self._read(context, self._parts.sources.read, request)

    async def ListSources(
        self, request: control_pb2.ListSourcesRequest, context: Any
    ) -> control_pb2.ListSourcesResponse:
        """See the contract."""
        return await self._read(context, self._parts.sources.page, request)

    async def DeleteSource(
        self, request: control_pb2.DeleteSourceRequest, context: Any
    ) -> control_pb2.DeleteSourceResponse:
        """See the contract."""
        return await self._change(context, "control.delete_source", "", self._parts.sources.decide_delete, request)
