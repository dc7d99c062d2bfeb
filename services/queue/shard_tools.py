"""The calls that look after a shard's file: check, backup, open again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc

from services.queue import verification
from services.queue.backup import Facts, OnlineBackup, note_path
from services.queue.shards import Shards
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason, abort, invalid

MAX_PATH_BYTES = 4_096
PROGRESS_SECONDS = 0.25
# Copies and checks at once: each costs the disk and, in part, the shard's time.
MAX_AT_ONCE = 2


class ShardToolsService(queue_pb2_grpc.QueueServiceServicer):
    """See protos/evenflow/queue/v1/queue.proto."""

    _shards: Shards
    _clock: Clock

    def __init__(self) -> None:
        self._tool_slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._copied: set[int] = set()

    @contextlib.asynccontextmanager
    async def _slot(self, shard_id: int) -> AsyncIterator[None]:
        """One copy of a shard at a time. EvenflowError RESOURCE_CONFLICT."""
        if shard_id in self._copied:
            message = f"shard {shard_id} is being copied already: wait for that to end"
            raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, message)
        self._copied.add(shard_id)
        try:
            async with self._tool_slots:
                yield
        finally:
            self._copied.discard(shard_id)

    async def CheckShard(self, request: queue_pb2.CheckShardRequest, context: Any) -> queue_pb2.CheckShardResponse:
        """See the contract."""
        try:
            writer = self._shards.get(request.shard_id)
            async with self._slot(request.shard_id):
                path = self._shards.scratch_path(request.shard_id)
                backup = OnlineBackup(path, self._clock.monotonic_ms, self._clock.wall_ms)
                try:
                    facts = await backup.run(writer)
                    verdict = await asyncio.to_thread(
                        verification.verify, path, request.shard_id, full=request.full, now_ms=facts.taken_at_ms
                    )
                finally:
                    path.unlink(missing_ok=True)
                    note_path(path).unlink(missing_ok=True)
            findings = [*verdict.findings, *_count_findings(facts, verdict)]
            return queue_pb2.CheckShardResponse(
                findings=findings[: verification.MAX_FINDINGS],
                rows=verdict.rows,
                pages=verdict.pages,
                longest_step_us=facts.longest_step_us,
            )
        except EvenflowError as e:
            await abort(context, e)

    async def BackupShard(
        self, request: queue_pb2.BackupShardRequest, context: Any
    ) -> AsyncIterator[queue_pb2.BackupShardResponse]:
        """See the contract."""
        running: asyncio.Task[Facts] | None = None
        try:
            path = _path_from(request.path)
            writer = self._shards.get(request.shard_id)
            async with self._slot(request.shard_id):
                backup = OnlineBackup(path, self._clock.monotonic_ms, self._clock.wall_ms)
                running = asyncio.create_task(backup.run(writer), name=f"backup of shard {request.shard_id}")
                while not (await asyncio.wait([running], timeout=PROGRESS_SECONDS))[0]:
                    done, total = backup.progress
                    yield queue_pb2.BackupShardResponse(pages_done=done, pages_total=total)
                facts = await running
            yield queue_pb2.BackupShardResponse(
                pages_done=facts.pages,
                pages_total=facts.pages,
                facts=queue_pb2.BackupFacts(
                    identity=facts.identity,
                    generation=facts.generation,
                    taken_at_ms=facts.taken_at_ms,
                    depth=facts.depth,
                    dead_letters=facts.dead_letters,
                    file_bytes=facts.file_bytes,
                    sha256=facts.sha256,
                    longest_step_us=facts.longest_step_us,
                ),
            )
        except EvenflowError as e:
            await abort(context, e)
        finally:
            if running is not None and not running.done():
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def ReopenShard(self, request: queue_pb2.ReopenShardRequest, context: Any) -> queue_pb2.ReopenShardResponse:
        """See the contract."""
        try:
            writer = await self._shards.reopen(request.shard_id)
            return queue_pb2.ReopenShardResponse(state=writer.state, state_reason=writer.state_reason)
        except EvenflowError as e:
            await abort(context, e)


def _count_findings(facts: Facts, verdict: verification.Verdict) -> list[str]:
    """Whether the shard's memory agrees with its file."""
    if not verdict.rows:
        return []
    pairs = (
        ("events", facts.event_rows),
        ("delayed", facts.delayed_rows),
        ("dead_letters", facts.dead_letters),
    )
    return [
        f"the shard counts {counted} rows of {table}, its file has {verdict.rows[table]}"
        for table, counted in pairs
        if verdict.rows.get(table) != counted
    ]


def _path_from(text: str) -> Path:
    if not text or len(text.encode()) > MAX_PATH_BYTES or not Path(text).is_absolute():
        raise invalid(f"path must be absolute and at most {MAX_PATH_BYTES} bytes")
    path = Path(text)
    if not path.parent.is_dir():
        raise invalid(f"the folder {path.parent} is not there")
    return path
