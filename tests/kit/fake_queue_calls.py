"""The unary calls of the queue node that keeps its shards in memory."""

from typing import Any

from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.shared import ids
from services.shared.errors import EvenflowError, Reason, abort, invalid
from tests.kit.memory_shard import MemoryShard

DEFAULT_PAGE, MAX_PAGE = 100, 1_000
DEFAULT_BULK, MAX_BULK = 1_000, 10_000
# Any: a fake serves only a part of the contract, and the stubs know no asyncio coroutines.
_Servicer: Any = queue_pb2_grpc.QueueServiceServicer


class FakeQueueCalls(_Servicer):  # type: ignore[misc]
    """See FakeQueueNode, which has the shards."""

    node_id: str
    epoch: int
    shards: dict[int, MemoryShard]

    def shard(self, shard_id: int) -> MemoryShard:
        """The shard. EvenflowError SHARD_UNAVAILABLE: it is of another node."""
        raise NotImplementedError

    def depths(self) -> dict[int, queue_pb2.ShardDepth]:
        """Of each shard."""
        raise NotImplementedError

    def changed(self) -> None:
        """There may be something to lease."""
        raise NotImplementedError

    async def GetEvent(self, request: queue_pb2.GetEventRequest, context: Any) -> queue_pb2.GetEventResponse:
        """See the proto."""
        try:
            found = self._shard_of(request.request_id).status(request.tenant_id, request.request_id)
            if found is None:
                raise EvenflowError(Reason.ERROR_REASON_EVENT_NOT_FOUND, "no such event")
            return queue_pb2.GetEventResponse(status=found)
        except EvenflowError as e:
            await abort(context, e)

    async def ListEvents(self, request: queue_pb2.ListEventsRequest, context: Any) -> queue_pb2.ListEventsResponse:
        """See the proto."""
        try:
            limit = _bounded(request.page_size, DEFAULT_PAGE, MAX_PAGE)
            shard = self._for(request.tenant_id, request.shard_id)
            return queue_pb2.ListEventsResponse(
                events=shard.list_events(request.tenant_id, request.function_name, limit)
            )
        except EvenflowError as e:
            await abort(context, e)

    async def ListDeadLetters(
        self, request: queue_pb2.ListDeadLettersRequest, context: Any
    ) -> queue_pb2.ListDeadLettersResponse:
        """See the proto."""
        try:
            limit = _bounded(request.page_size, DEFAULT_PAGE, MAX_PAGE)
            shard = self._for(request.filter.tenant_id, request.filter.shard_id)
            if request.page_token and not request.page_token.isdecimal():
                raise invalid("page_token is not one of ours")
            return shard.dead_letters(request.filter, limit, request.page_token)
        except EvenflowError as e:
            await abort(context, e)

    async def GetDeadLetter(
        self, request: queue_pb2.GetDeadLetterRequest, context: Any
    ) -> queue_pb2.GetDeadLetterResponse:
        """See the proto."""
        try:
            if not request.tenant_id:
                raise invalid("tenant_id is required")
            found = self._shard_of(request.request_id).dead_letter(request.tenant_id, request.request_id)
            if found is None:
                raise EvenflowError(Reason.ERROR_REASON_EVENT_NOT_FOUND, "no such dead letter")
            return queue_pb2.GetDeadLetterResponse(dead_letter=found)
        except EvenflowError as e:
            await abort(context, e)

    async def RedriveDeadLetters(
        self, request: queue_pb2.RedriveDeadLettersRequest, context: Any
    ) -> queue_pb2.RedriveDeadLettersResponse:
        """See the proto; at once, whatever the rate."""
        try:
            limit = _bounded(request.max_events, DEFAULT_BULK, MAX_BULK)
            moved = self._for(request.filter.tenant_id, request.filter.shard_id).redrive(request.filter, limit)
            self.changed()
            return queue_pb2.RedriveDeadLettersResponse(redriven=moved)
        except EvenflowError as e:
            await abort(context, e)

    async def PurgeDeadLetters(
        self, request: queue_pb2.PurgeDeadLettersRequest, context: Any
    ) -> queue_pb2.PurgeDeadLettersResponse:
        """See the proto."""
        try:
            limit = _bounded(request.max_events, DEFAULT_BULK, MAX_BULK)
            purged = self._for(request.filter.tenant_id, request.filter.shard_id).purge(request.filter, limit)
            return queue_pb2.PurgeDeadLettersResponse(purged=purged)
        except EvenflowError as e:
            await abort(context, e)

    async def DescribeShards(
        self, request: queue_pb2.DescribeShardsRequest, context: Any
    ) -> queue_pb2.DescribeShardsResponse:
        """See the proto; there are no files to tell of."""
        found = []
        for shard_id, depth in self.depths().items():
            numbers = self.shards[shard_id].numbers() if shard_id in self.shards else None
            found.append(
                queue_pb2.ShardDescription(
                    depth=depth,
                    dead_letters=numbers.dead_letters if numbers else 0,
                    delayed=numbers.delayed if numbers else 0,
                    handovers=numbers.handovers if numbers else 0,
                )
            )
        return queue_pb2.DescribeShardsResponse(node_id=self.node_id, shard_map_epoch=self.epoch, shards=found)

    def _shard_of(self, request_id: bytes) -> MemoryShard:
        try:
            shard_id = ids.shard_of(request_id)
        except ValueError as e:
            raise invalid(str(e)) from None
        return self.shard(shard_id)

    def _for(self, tenant_id: str, shard_id: int) -> MemoryShard:
        if not tenant_id:
            raise invalid("tenant_id is required")
        return self.shard(shard_id)


def _bounded(given: int, default: int, maximum: int) -> int:
    if given > maximum:
        raise invalid(f"at most {maximum}")
    return given or default
