"""One change after the other: decided on the loop, committed by the writer's thread, then applied and published.

Nobody learns of a change before it is durable, and each is decided on the outcome of the one before. A caller that
gives up does not stop its change half way.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.database import CommitFailed, Database, OutcomeUnknown, Statement
from services.control.state import State
from services.shared.errors import EvenflowError, Reason

# Calls that may wait for their turn; control's own changes come on top, a few for each node.
MAX_WAITING_CALLS = 1_000
# Of the process when only a new start from the file can tell what is stored.
EXIT_OUTCOME_UNKNOWN = 4
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Change:
    """What is to be stored in one transaction, and what is done once it is."""

    revision: int
    upserts: list[resources_pb2.Resource] = field(default_factory=list)
    deleted_keys: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    when_committed: list[Callable[[], None]] = field(default_factory=list)
    when_failed: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_visible(self) -> bool:
        """Whether followers are to learn of it."""
        return bool(self.upserts or self.deleted_keys)


@dataclass(frozen=True, slots=True)
class _Turn:
    decide: Callable[[Change], Any]
    done: "asyncio.Future[Any]"


class Changes:
    """The single writer of control's state."""

    def __init__(self, database: Database, state: State, publish: Callable[[control_pb2.WatchResponse], None]) -> None:
        self._database = database
        self._state = state
        self._publish = publish
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control.db")
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self) -> None:
        """Begin to take turns."""
        self._task = asyncio.create_task(self._run(), name="changes")

    def require_room(self) -> None:
        """For calls from outside. EvenflowError UNAVAILABLE: too many wait already."""
        if self._turns.qsize() >= MAX_WAITING_CALLS:
            text = f"{MAX_WAITING_CALLS:,} changes wait already: try again"
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text, retry_after_ms=1_000)

    async def run(self, decide: Callable[[Change], T]) -> T:
        """Let `decide` fill the next change, in its turn; its result once the change is committed and applied.

        `decide` raises to refuse. EvenflowError DISK_FULL or UNAVAILABLE: nothing was changed.
        """
        if self._is_closed:
            raise EvenflowError(Reason.ERROR_REASON_DRAINING, "control is stopping: try again", retry_after_ms=1_000)
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._turns.put_nowait(_Turn(decide, done))
        return await asyncio.shield(done)

    async def stop(self) -> None:
        """Let what waits come to its end, then close the file."""
        self._is_closed = True
        if self._task is not None:
            await self._turns.join()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            turn = await self._turns.get()
            try:
                result = await self._take(turn)
            except Exception as e:
                refusal: Exception = e
                # ValueError is for who starts control: what it set does not fit.
                if not isinstance(e, EvenflowError | ValueError):
                    log.exception("a change could not be made")
                    text = "control could not make the change; see its log"
                    refusal = EvenflowError(Reason.ERROR_REASON_INTERNAL, text)
                if not turn.done.done():
                    turn.done.set_exception(refusal)
                    # Its caller may be gone; then nobody looks at it.
                    turn.done.exception()
            else:
                if not turn.done.done():
                    turn.done.set_result(result)
            finally:
                self._turns.task_done()

    async def _take(self, turn: _Turn) -> Any:
        change = Change(self._state.revision + 1)
        result = turn.decide(change)
        if change.is_visible or change.statements:
            try:
                await self._commit(change)
            except EvenflowError:
                for callback in change.when_failed:
                    callback()
                raise
        for callback in change.when_committed:
            callback()
        return result

    async def _commit(self, change: Change) -> None:
        revision = change.revision if change.is_visible else self._state.revision
        upserts = [(resource.key, resource.SerializeToString()) for resource in change.upserts]
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread, self._database.commit, revision, upserts, change.deleted_keys, change.statements
            )
        except CommitFailed as e:
            log.error("nothing was stored: %s", e)
            reason = Reason.ERROR_REASON_DISK_FULL if e.is_disk_full else Reason.ERROR_REASON_UNAVAILABLE
            text = "control's disk is full: make room" if e.is_disk_full else "control could not store the change"
            raise EvenflowError(reason, text, retry_after_ms=1_000) from e
        except OutcomeUnknown as e:
            log.critical("the outcome of a commit is unknown (%s): control ends, to start again from what is stored", e)
            logging.shutdown()
            os._exit(EXIT_OUTCOME_UNKNOWN)
        if change.is_visible:
            self._state.apply(revision, change.upserts, change.deleted_keys)
            self._publish(
                control_pb2.WatchResponse(revision=revision, upserts=change.upserts, deleted_keys=change.deleted_keys)
            )
