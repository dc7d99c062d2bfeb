"""Takes one shard of a node from step to step, until the fleet's map and the manifest agree."""

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from evenflow.queue.v1 import queue_pb2

from services.policy.backoff import equal_jitter_ms
from services.queue.marks import WAITS
from services.queue.moves import LONG_STEPS, Place, Step, Told
from services.queue.shard import Shard
from services.queue.transfer import CopyRefused, FileFacts
from services.shared.errors import EvenflowError

if TYPE_CHECKING:
    from services.queue.shards import Shards

BACKOFF_BASE_MS = 25.0
BACKOFF_CAP_MS = 1_000.0
LEASES_POLL_SECONDS = 0.02
Phase = queue_pb2.ShardMovePhase
_PHASES = {
    Step.DRAIN: Phase.SHARD_MOVE_PHASE_DRAINING,
    Step.FETCH: Phase.SHARD_MOVE_PHASE_FETCHING,
    Step.COMPLETE: Phase.SHARD_MOVE_PHASE_COMPLETING,
}
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far a file is on its way."""

    bytes_done: int = 0
    bytes_total: int = 0


class Courier(Protocol):
    """What a move needs of other processes."""

    async def fetch(self, shard_id: int, told: Told, progress: Progress) -> FileFacts:
        """Get a whole, verified, durable copy from the owner. EvenflowError, CopyRefused, OSError: try again."""
        ...

    async def complete(self, shard_id: int, move_epoch: int, identity: str, generation: int) -> None:
        """Have control name this node the owner. EvenflowError."""
        ...


class NoCourier:
    """Of a node that is alone."""

    async def fetch(self, shard_id: int, told: Told, progress: Progress) -> FileFacts:
        """Refused."""
        raise CopyRefused("this node cannot reach others")

    async def complete(self, shard_id: int, move_epoch: int, identity: str, generation: int) -> None:
        """Refused."""
        raise CopyRefused("this node cannot reach control")


class Keeper:
    """One shard's steps, one after the other, in a task that ends when there is nothing to do."""

    def __init__(self, shards: "Shards", shard_id: int) -> None:
        self.shard_id = shard_id
        self.progress = Progress()
        self.trouble = ""
        # The steps that need no other process are done.
        self.is_settled = asyncio.Event()
        self._shards = shards
        self._changed = asyncio.Event()
        self._failures = 0
        self._logged: Step | None = None
        self._leases_left = 0
        self._task = asyncio.create_task(self._run(), name=f"keep shard {shard_id}")

    @property
    def is_done(self) -> bool:
        """Whether the shard needs nothing now."""
        return self._task.done()

    def map_changed(self) -> None:
        """The map is a newer one: what is waited for may be over."""
        self._changed.set()

    async def stop(self) -> None:
        """End; the step that is under way is taken up at the next start."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def describe(self, step: Step, told: Told) -> queue_pb2.ShardMoveStatus | None:
        """The move's state; None: nothing moves."""
        phase = _PHASES.get(step)
        if phase is None:
            return None
        is_source = step is Step.DRAIN
        return queue_pb2.ShardMoveStatus(
            shard_id=self.shard_id,
            move_epoch=told.move_epoch,
            phase=phase,
            peer_node_id=told.move_to if is_source else told.owner,
            bytes_done=self.progress.bytes_done,
            bytes_total=self.progress.bytes_total,
            leases_left=self._leases_left if is_source else 0,
            trouble=self.trouble,
        )

    async def _run(self) -> None:
        try:
            while True:
                step = self._shards.next_step(self.shard_id)
                if step is Step.REST:
                    return
                if step in LONG_STEPS:
                    self.is_settled.set()
                self._changed.clear()
                try:
                    await self._take(step)
                    self.trouble, self._failures = "", 0
                except EvenflowError as e:
                    await self._pause(step, "" if WAITS in e.metadata else e.message)
                except (CopyRefused, OSError) as e:
                    await self._pause(step, str(e))
                except Exception as e:
                    log.exception("step %s failed", step.name, extra={"shard_id": self.shard_id})
                    await self._pause(step, f"{type(e).__name__}: {e}")
        finally:
            self.is_settled.set()

    async def _take(self, step: Step) -> None:
        shards, shard_id, told = self._shards, self.shard_id, self._shards.told(self.shard_id)
        if step not in (Step.OPEN, Step.CLOSE, self._logged):
            self._logged = step
            log.info("shard %d: %s", shard_id, step.name.lower(), extra={"shard_id": shard_id})
        match step:
            case Step.OPEN:
                await shards.open(shard_id)
            case Step.CLOSE:
                await shards.close(shard_id)
            case Step.RESUME:
                await shards.writer(shard_id).call(Shard.stay)
            case Step.DRAIN:
                await self._drain(told)
            case Step.OFFER:
                await shards.marks.note(shard_id, Place.OFFERED, told.move_epoch, told.move_to)
            case Step.RECLAIM:
                await shards.marks.note(shard_id, Place.HERE, told.epoch, "")
            case Step.DROP:
                await shards.marks.drop(shard_id, told)
            case Step.FETCH:
                await self._fetch(told)
            case Step.COMPLETE:
                identity, generation = shards.record(shard_id)
                await shards.courier.complete(shard_id, told.move_epoch, identity, generation)
                # Usually the answer brought the map along; else control's word comes by itself.
                if shards.next_step(shard_id) is Step.COMPLETE:
                    await self._wait_changed(BACKOFF_CAP_MS / 1_000)
            case Step.CLAIM:
                await shards.marks.claim(shard_id, told)
            case Step.DISCARD:
                await shards.marks.discard(shard_id, told)

    async def _drain(self, told: Told) -> None:
        shards, shard_id = self._shards, self.shard_id
        writer = await shards.open(shard_id)
        if writer.state == queue_pb2.SHARD_STATE_QUARANTINED:
            raise CopyRefused(f"the shard is quarantined and cannot be moved: {writer.state_reason}")
        deadline = time.monotonic() + shards.move_drain_seconds
        while True:
            self._leases_left = await writer.call(Shard.leave)
            if shards.next_step(shard_id) is not Step.DRAIN:
                return
            if not self._leases_left:
                break
            if time.monotonic() >= deadline:
                await writer.call(_let_leases_end)
            await self._wait_changed(LEASES_POLL_SECONDS)
        await shards.close(shard_id)
        if not shards.is_closed_cleanly(shard_id):
            raise CopyRefused("the file did not close cleanly; it is opened and closed again")
        await shards.marks.note(shard_id, Place.OFFERED, told.move_epoch, told.move_to)

    async def _fetch(self, told: Told) -> None:
        shards, shard_id = self._shards, self.shard_id
        self.progress = Progress()
        async with shards.fetch_slots:
            fetching = asyncio.create_task(shards.courier.fetch(shard_id, told, self.progress))
            try:
                while not fetching.done():
                    changed = asyncio.create_task(self._changed.wait())
                    await asyncio.wait({fetching, changed}, return_when=asyncio.FIRST_COMPLETED)
                    changed.cancel()
                    self._changed.clear()
                    is_same = shards.told(shard_id).move_epoch == told.move_epoch
                    if not is_same or shards.next_step(shard_id) is not Step.FETCH:
                        fetching.cancel()
                        await asyncio.gather(fetching, return_exceptions=True)
                        await shards.marks.forget_copy(shard_id)
                        return
            finally:
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)
            await shards.marks.note_fetched(shard_id, told, fetching.result())

    async def _pause(self, step: Step, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning(
                "shard %d: %s: %s", self.shard_id, step.name.lower(), trouble, extra={"shard_id": self.shard_id}
            )
        self.trouble = trouble
        # Whoever starts the node need not wait for a disk or a peer that fails.
        self.is_settled.set()
        self._failures += 1
        await self._wait_changed(
            equal_jitter_ms(self._failures, BACKOFF_BASE_MS, BACKOFF_CAP_MS, random.random()) / 1_000
        )

    async def _wait_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
            self._changed.clear()
        except TimeoutError:
            return


def _let_leases_end(shard: Shard) -> None:
    shard.leases.renews = False
