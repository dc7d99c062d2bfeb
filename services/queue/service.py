"""The gRPC face of a queue node: translates, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.queue import dead_letters, status
from services.queue.counts import DrainReport
from services.queue.offers import Offers
from services.queue.redriving import Redriver
from services.queue.shard_tools import ShardToolsService
from services.queue.shards import Shards
from services.queue.streams import EnqueueStream, LeaseStream, PendingBytes, SettleStream
from services.queue.writer import ShardWriter
from services.shared import ids
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, abort, invalid
from services.shared.streams import Wakeup, queue_gap_ms, serve_stream

SERVICE_NAME = "evenflow.queue.v1.QueueService"
DEFAULT_PAGE = 100
MAX_PAGE = 1_000
DEFAULT_BULK = 1_000
MAX_BULK = 10_000
DEFAULT_REDRIVE_PER_SECOND = 500
MIN_INTERVAL_MS = 10
MAX_INTERVAL_MS = 10_000


class _Handlers:
    """Stands where the generated code expects a server: keeps the handlers that it would add."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, _handlers: Any) -> None:
        """The same ones in another form."""

    def add_registered_method_handlers(self, _service_name: str, handlers: dict[str, Any]) -> None:
        """By the name of the method."""
        self.found = handlers


def register(service: "QueueService", server: Any) -> None:
    """Add the contract's methods to a gRPC server; leases go out as the bytes that they are."""
    generated = _Handlers()
    queue_pb2_grpc.add_QueueServiceServicer_to_server(service, generated)  # type: ignore[arg-type]
    handlers = {
        **generated.found,
        "Lease": grpc.stream_stream_rpc_method_handler(
            service.Lease,
            request_deserializer=queue_pb2.LeaseRequest.FromString,
            response_serializer=lambda outgoing: outgoing.payload,
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    server.add_registered_method_handlers(SERVICE_NAME, handlers)


class QueueService(ShardToolsService):
    """See protos/evenflow/queue/v1/queue.proto."""

    def __init__(
        self,
        shards: Shards,
        clock: Clock,
        *,
        node_id: str,
        depth_interval_ms: int,
        pending_max_bytes: int,
        redrive_per_second: int = DEFAULT_REDRIVE_PER_SECOND,
    ) -> None:
        super().__init__()
        self._shards = shards
        self._clock = clock
        self._node_id = node_id
        self._depth_interval_ms = depth_interval_ms
        self._pending = PendingBytes(pending_max_bytes)
        self._offers = Offers(shards)
        self._watchers: set[Wakeup] = set()
        self._redriver = Redriver(clock, redrive_per_second)

    def note_drained(self, _shard_id: int, _report: DrainReport) -> None:
        """A shard's numbers may have changed."""
        for watcher in self._watchers:
            watcher.set()

    # The stub's types know only handlers that yield; this one reads and writes its context.
    async def Enqueue(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        stream = EnqueueStream(self._shards, self._clock, self._pending)
        await self._serve_writes(stream, context)

    # The stub's types know only handlers that yield; this one reads and writes its context.
    async def Settle(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        stream = SettleStream(self._shards, self._clock, self._pending)
        await self._serve_writes(stream, context)

    # The stub's types know only handlers that yield; this one reads and writes its context.
    async def Lease(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """See the contract."""
        stream = LeaseStream(self._shards)
        try:
            await serve_stream(
                context,
                on_message=stream.on_message,
                produce=stream.produce,
                wakeup=stream.wakeup,
                gap_ms=lambda outgoing: queue_gap_ms(outgoing.leases),
            )
        finally:
            stream.close()

    async def WatchDepths(
        self, request: queue_pb2.WatchDepthsRequest, context: Any
    ) -> AsyncIterator[queue_pb2.WatchDepthsResponse]:
        """See the contract."""
        interval_ms = request.interval_ms or self._depth_interval_ms
        if not MIN_INTERVAL_MS <= interval_ms <= MAX_INTERVAL_MS:
            await abort(context, invalid(f"interval_ms must be within {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}"))
        changed = Wakeup()
        self._watchers.add(changed)
        told: dict[int, tuple[queue_pb2.ShardDepth, int]] = {}
        try:
            while True:
                seen = [(_depth_of(writer), _finished(writer)) for writer in self._shards]
                # With the events that ended: whoever put one in was told a depth with it, which is over as well when
                # it has come and gone between two looks.
                fresh = [one for one in seen if told.get(one[0].shard_id) != one]
                if fresh or not told:
                    yield queue_pb2.WatchDepthsResponse(depths=[depth for depth, _ in fresh])
                    told.update({one[0].shard_id: one for one in fresh})
                await asyncio.sleep(interval_ms / 1_000)
                await changed.wait()
        finally:
            self._watchers.discard(changed)

    async def GetEvent(self, request: queue_pb2.GetEventRequest, context: Any) -> queue_pb2.GetEventResponse:
        """See the contract."""
        try:
            writer = self._writer_of(request.request_id)
            tenant_id, request_id = request.tenant_id, request.request_id
            found = await writer.call(lambda shard: status.find(shard, tenant_id, request_id))
            if found is None:
                raise _not_found("event", request_id)
            return queue_pb2.GetEventResponse(status=found)
        except EvenflowError as e:
            await abort(context, e)

    async def ListEvents(self, request: queue_pb2.ListEventsRequest, context: Any) -> queue_pb2.ListEventsResponse:
        """See the contract."""
        try:
            limit = _size(request.page_size, DEFAULT_PAGE, MAX_PAGE, "page_size")
            tenant_id, function_name = _tenant(request.tenant_id), request.function_name
            writer = self._shards.get(request.shard_id)
            found = await writer.call(lambda shard: status.list_events(shard, tenant_id, function_name, limit))
            return queue_pb2.ListEventsResponse(events=found)
        except EvenflowError as e:
            await abort(context, e)

    async def ListDeadLetters(
        self, request: queue_pb2.ListDeadLettersRequest, context: Any
    ) -> queue_pb2.ListDeadLettersResponse:
        """See the contract."""
        try:
            limit = _size(request.page_size, DEFAULT_PAGE, MAX_PAGE, "page_size")
            which = _filter(request.filter)
            if request.page_token and not request.page_token.isdecimal():
                raise invalid("page_token is not one of ours")
            after_id = int(request.page_token[:19] or 0)
            writer = self._shards.get(request.filter.shard_id)
            found: list[queue_pb2.DeadLetterEntry] = []
            while True:
                some = partial(dead_letters.page, which=which, after_id=after_id, limit=limit - len(found))
                page, after_id = await writer.call(some)
                found += page
                if not after_id or len(found) >= limit:
                    break
            return queue_pb2.ListDeadLettersResponse(dead_letters=found, next_page_token=str(after_id or ""))
        except EvenflowError as e:
            await abort(context, e)

    async def GetDeadLetter(
        self, request: queue_pb2.GetDeadLetterRequest, context: Any
    ) -> queue_pb2.GetDeadLetterResponse:
        """See the contract."""
        try:
            tenant_id, request_id = _tenant(request.tenant_id), request.request_id
            writer = self._writer_of(request_id)
            found = await writer.call(lambda shard: dead_letters.show(shard, tenant_id, request_id))
            if found is None:
                raise _not_found("dead letter", request_id)
            return queue_pb2.GetDeadLetterResponse(dead_letter=found)
        except EvenflowError as e:
            await abort(context, e)

    async def RedriveDeadLetters(
        self, request: queue_pb2.RedriveDeadLettersRequest, context: Any
    ) -> queue_pb2.RedriveDeadLettersResponse:
        """See the contract."""
        try:
            limit = _size(request.max_events, DEFAULT_BULK, MAX_BULK, "max_events")
            which = _filter(request.filter)
            writer = self._shards.get(request.filter.shard_id)

            async def move(after_id: int, count: int) -> dead_letters.Moved:
                moved: Any = await writer.call(
                    lambda shard: dead_letters.redrive(shard, which, count, after_id), writes=True
                )
                return moved  # type: ignore[no-any-return]  # what the returned callable told

            total = await self._redriver.run(writer.shard_id, limit, request.max_per_second, move)
            return queue_pb2.RedriveDeadLettersResponse(redriven=total)
        except EvenflowError as e:
            await abort(context, e)

    async def PurgeDeadLetters(
        self, request: queue_pb2.PurgeDeadLettersRequest, context: Any
    ) -> queue_pb2.PurgeDeadLettersResponse:
        """See the contract."""
        try:
            limit = _size(request.max_events, DEFAULT_BULK, MAX_BULK, "max_events")
            which = _filter(request.filter)
            writer = self._shards.get(request.filter.shard_id)
            total = after_id = 0
            while total < limit:
                gone: Any = await writer.call(
                    partial(dead_letters.purge, which=which, limit=limit - total, after_id=after_id), writes=True
                )
                total, after_id = total + gone, gone.next_id
                if not after_id:
                    break
            return queue_pb2.PurgeDeadLettersResponse(purged=total)
        except EvenflowError as e:
            await abort(context, e)

    async def DescribeShards(
        self, request: queue_pb2.DescribeShardsRequest, context: Any
    ) -> queue_pb2.DescribeShardsResponse:
        """See the contract."""
        found = []
        for writer in self._shards:
            identity, generation = self._shards.record(writer.shard_id)
            description = queue_pb2.ShardDescription(
                depth=_depth_of(writer), identity=identity, generation=generation, state_reason=writer.state_reason
            )
            if writer.stats is not None:
                stats = writer.stats
                description.dead_letters = stats.dead_letters
                description.delayed = stats.delayed
                description.handovers = stats.handovers
                description.accepted_total = stats.accepted_total
                description.finished_total = stats.finished_total
                description.file_bytes = stats.file_bytes
            found.append(description)
        return queue_pb2.DescribeShardsResponse(
            node_id=self._node_id,
            shard_map_epoch=self._shards.epoch,
            shards=found,
            moves=self._shards.move_statuses(),
        )

    async def FetchShard(
        self, request: queue_pb2.FetchShardRequest, context: Any
    ) -> AsyncIterator[queue_pb2.FetchShardResponse]:
        """See the contract."""
        try:
            async for part in self._offers.send(request):
                yield part
        except EvenflowError as e:
            await abort(context, e)

    async def _serve_writes(self, stream: EnqueueStream | SettleStream, context: Any) -> None:
        gate = Wakeup()
        self._pending.watch(gate)
        try:
            await serve_stream(
                context,
                on_message=stream.on_message,
                produce=stream.produce,
                wakeup=stream.wakeup,
                is_owing=stream.is_owing,
                may_read=self._pending.has_room,
                read_gate=gate,
            )
        finally:
            self._pending.unwatch(gate)

    def _writer_of(self, request_id: bytes) -> ShardWriter:
        try:
            shard_id = ids.shard_of(request_id)
        except ValueError as e:
            raise invalid(str(e)) from None
        return self._shards.get(shard_id)


def _depth_of(writer: ShardWriter) -> queue_pb2.ShardDepth:
    depth = queue_pb2.ShardDepth(shard_id=writer.shard_id, state=writer.state)
    stats = writer.stats
    if stats is not None:
        depth.depth = stats.depth
        depth.leased = stats.leased
        depth.oldest_age_ms = stats.oldest_age_ms
        if not stats.takes_events and writer.state == queue_pb2.SHARD_STATE_SERVING:
            depth.state = queue_pb2.SHARD_STATE_DRAINING
    return depth


def _finished(writer: ShardWriter) -> int:
    return writer.stats.finished_total if writer.stats is not None else 0


def _size(given: int, default: int, maximum: int, name: str) -> int:
    if given > maximum:
        raise invalid(f"{name} must be at most {maximum}")
    return given or default


def _tenant(tenant_id: str) -> str:
    if not tenant_id:
        raise invalid("tenant_id is required")
    return tenant_id


def _filter(given: queue_pb2.DeadLetterFilter) -> dead_letters.Filter:
    return dead_letters.Filter(_tenant(given.tenant_id), given.request_id, given.function_name, given.error_type)


def _not_found(what: str, request_id: bytes) -> EvenflowError:
    message = f"no {what} {ids.to_text(request_id)} here: unknown, of another tenant, or no longer kept"
    return EvenflowError(Reason.ERROR_REASON_EVENT_NOT_FOUND, message)
