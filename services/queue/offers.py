"""Sends the file of a shard that is closed for a move to the node that gets it."""

import asyncio
from collections.abc import AsyncIterator

from evenflow.queue.v1 import queue_pb2

from services.queue.keeper import Progress
from services.queue.shards import Shards
from services.queue.transfer import CopyRefused, FileFacts, OfferedFile
from services.shared.errors import EvenflowError, Reason

MAX_SENDS = 8
_Response = queue_pb2.FetchShardResponse


class Offers:
    """The files that are being sent."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._sends = 0

    async def send(self, request: queue_pb2.FetchShardRequest) -> AsyncIterator[_Response]:
        """Header, chunks, trailer. EvenflowError: see the contract."""
        shards, shard_id = self._shards, request.shard_id
        record = shards.offer(shard_id, request.move_epoch, request.node_id)
        if self._sends >= MAX_SENDS:
            text = f"this node sends {MAX_SENDS} files already: ask again"
            raise EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, text, retry_after_ms=1_000)
        self._sends += 1
        try:
            file = await asyncio.to_thread(OfferedFile, shards.directory, shard_id, record)
            progress = shards.sent[shard_id] = Progress(0, file.facts.size_bytes)
            try:
                yield _header(file.facts)
                while chunk := await asyncio.to_thread(file.read):
                    # Once the move is cancelled the file may be opened and written to.
                    self._check_still_offered(request)
                    progress.bytes_done += len(chunk)
                    yield _Response(chunk=chunk)
                self._check_still_offered(request)
                yield _Response(trailer=queue_pb2.ShardFileTrailer(sha256=file.digest()))
            finally:
                await asyncio.to_thread(file.close)
        except (CopyRefused, OSError) as e:
            raise EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, f"shard {shard_id} cannot be sent: {e}") from e
        finally:
            self._sends -= 1
            shards.sent.pop(shard_id, None)

    def _check_still_offered(self, request: queue_pb2.FetchShardRequest) -> None:
        try:
            self._shards.offer(request.shard_id, request.move_epoch, request.node_id)
        except EvenflowError as e:
            text = f"the move was cancelled: {e}"
            raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text) from None


def _header(facts: FileFacts) -> queue_pb2.FetchShardResponse:
    header = queue_pb2.ShardFileHeader(
        size_bytes=facts.size_bytes,
        identity=facts.identity,
        generation=facts.generation,
        closed_stamp=facts.closed_stamp,
    )
    return _Response(header=header)
