"""The durable marks of moves: what this node notes in its manifest, in which order with the files themselves.

Whatever is begun again after a crash does no harm: files are put in place or removed before that is noted.
"""

import asyncio
from pathlib import Path

from services.queue import transfer
from services.queue.identity import Manifest, ShardRecord
from services.queue.moves import Place, Told
from services.shared.errors import EvenflowError, Reason

# In the metadata of a refusal that only means: not yet.
WAITS = "waits"


class Marks:
    """Where the files of a node's shards are."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self._manifest = manifest

    async def note(self, shard_id: int, place: Place, epoch: int, peer: str) -> None:
        """Note durably where the file is. OSError: it could not be noted."""

        def change(record: ShardRecord) -> None:
            record.place, record.noted_epoch, record.peer = place.value, epoch, peer

        await asyncio.to_thread(self._manifest.change, shard_id, change)

    async def note_fetched(self, shard_id: int, told: Told, facts: transfer.FileFacts) -> None:
        """Note durably that a whole copy of the shard is here, for this move."""
        fetched = ShardRecord(
            facts.identity, facts.generation, True, facts.closed_stamp, Place.FETCHED.value, told.move_epoch, told.owner
        )
        await asyncio.to_thread(self._manifest.put, shard_id, fetched)

    async def claim(self, shard_id: int, told: Told) -> None:
        """Put the fetched copy in its place: this node is the owner."""
        await asyncio.to_thread(transfer.put_in_place, self._directory, shard_id)
        await self.note(shard_id, Place.HERE, told.epoch, "")

    async def drop(self, shard_id: int, told: Told) -> None:
        """Remove the file: the owner has it. Noted last, so that a crash in between repeats it."""
        await asyncio.to_thread(transfer.remove_file, self._directory, shard_id)
        await self.note(shard_id, Place.GONE, told.epoch, told.owner)

    async def forget_copy(self, shard_id: int) -> None:
        """Remove a copy that was not noted."""
        await asyncio.to_thread(transfer.remove_copy, self._directory, shard_id)

    async def discard(self, shard_id: int, told: Told) -> None:
        """Remove a copy whose move was cancelled."""
        await asyncio.to_thread(transfer.remove_copy, self._directory, shard_id)
        await self.note(shard_id, Place.GONE, told.epoch, told.owner)

    def check_copy(self, shard_id: int, facts: transfer.FileFacts) -> None:
        """Pass when this may be the file of the shard as this node knew it. CopyRefused."""
        record = self._manifest.records.get(shard_id)
        if record is not None and (record.identity != facts.identity or record.generation > facts.generation):
            raise transfer.CopyRefused(
                f"shard {shard_id} was here as {record.identity}, generation {record.generation}; offered is "
                f"{facts.identity}, generation {facts.generation}: another file or an old copy"
            )

    def offer(self, shard_id: int, told: Told | None, move_epoch: int, node_id: str) -> ShardRecord:
        """The record of a file that is offered for this move. EvenflowError: it is not, or not to this node."""
        record = self._manifest.records.get(shard_id)
        metadata = {"shard_id": str(shard_id)}
        if told is None or told.move_epoch != move_epoch or not told.move_to:
            text = f"this node knows of no move {move_epoch} of shard {shard_id}: it is over, or its map comes later"
            reason = Reason.ERROR_REASON_SHARD_UNAVAILABLE
            raise EvenflowError(reason, text, metadata={**metadata, WAITS: "map"})
        if told.move_to != node_id:
            text = f"shard {shard_id} moves to {told.move_to}, not to {node_id[:80]}"
            raise EvenflowError(Reason.ERROR_REASON_ACCESS_DENIED, text, metadata=metadata)
        if record is None or record.place != Place.OFFERED or record.noted_epoch != move_epoch:
            text = f"shard {shard_id} is not closed yet: ask again"
            reason = Reason.ERROR_REASON_SHARD_UNAVAILABLE
            raise EvenflowError(reason, text, metadata={**metadata, WAITS: "close"})
        return record
