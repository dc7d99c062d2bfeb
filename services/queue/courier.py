"""Fetches the file of a shard that moves here, and tells control when it is whole."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.queue.keeper import Progress
from services.queue.moves import Told
from services.queue.shards import Shards
from services.queue.transfer import SHA256_BYTES, CopyRefused, FileFacts, IncomingFile
from services.shared.channels import Peer
from services.shared.errors import EvenflowError, Reason

# A fetch goes on for as long as something comes; this long without a byte ends it.
FETCH_IDLE_SECONDS = 15.0
COMPLETE_SECONDS = 5.0


class GrpcCourier:
    """The courier of a node in a fleet."""

    def __init__(
        self,
        shards: Shards,
        *,
        node_id: str,
        control: Peer,
        peer_of: Callable[[str], Peer | None],
        on_map: Callable[[resources_pb2.ShardMap], None],
    ) -> None:
        """`peer_of`: a node by its id, None while its address is not known. `on_map`: control told a map."""
        self._shards = shards
        self._node_id = node_id
        self._control = control
        self._peer_of = peer_of
        self._on_map = on_map

    async def fetch(self, shard_id: int, told: Told, progress: Progress) -> FileFacts:
        """See Courier."""
        peer = self._peer_of(told.owner)
        if peer is None:
            text = f"the address of {told.owner} is not known: is it running?"
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text)
        request = queue_pb2.FetchShardRequest(shard_id=shard_id, move_epoch=told.move_epoch, node_id=self._node_id)
        call = queue_pb2_grpc.QueueServiceStub(peer.channel).FetchShard(request, metadata=peer.metadata)
        try:
            return await self._receive(shard_id, aiter(call), progress)
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None
        except TimeoutError:
            text = f"{told.owner} sent nothing for {FETCH_IDLE_SECONDS:.0f} s"
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text) from None
        finally:
            call.cancel()

    async def _receive(
        self, shard_id: int, parts: AsyncIterator[queue_pb2.FetchShardResponse], progress: Progress
    ) -> FileFacts:
        first = await _next(parts)
        if first is None or first.WhichOneof("kind") != "header":
            raise CopyRefused("the first part of the file is no header")
        header = first.header
        facts = FileFacts(header.size_bytes, header.identity, header.generation, header.closed_stamp)
        self._shards.marks.check_copy(shard_id, facts)
        progress.bytes_total = facts.size_bytes
        incoming = await asyncio.to_thread(IncomingFile, self._shards.directory, shard_id, facts)
        is_whole = False
        try:
            while not is_whole:
                part = await _next(parts)
                kind = part.WhichOneof("kind") if part is not None else None
                if part is not None and kind == "chunk":
                    await asyncio.to_thread(incoming.write, part.chunk)
                    progress.bytes_done = incoming.written_bytes
                elif part is not None and kind == "trailer" and len(part.trailer.sha256) == SHA256_BYTES:
                    await asyncio.to_thread(incoming.finish, part.trailer.sha256)
                    is_whole = True
                else:
                    raise CopyRefused(f"the file ended after {incoming.written_bytes:,} bytes")
        finally:
            await asyncio.to_thread(incoming.close, keep=is_whole)
        return facts

    async def complete(self, shard_id: int, move_epoch: int, identity: str, generation: int) -> None:
        """See Courier."""
        request = control_pb2.CompleteMoveRequest(
            shard_id=shard_id, node_id=self._node_id, move_epoch=move_epoch, identity=identity, generation=generation
        )
        try:
            answer = await control_pb2_grpc.ControlServiceStub(self._control.channel).CompleteMove(
                request, metadata=self._control.metadata, timeout=COMPLETE_SECONDS
            )
        except grpc.aio.AioRpcError as e:
            raise EvenflowError.from_rpc_error(e) from None
        self._on_map(answer.shard_map)


async def _next(parts: AsyncIterator[queue_pb2.FetchShardResponse]) -> queue_pb2.FetchShardResponse | None:
    async with asyncio.timeout(FETCH_IDLE_SECONDS):
        return await anext(parts, None)
