"""The thread of one shard: takes everything that waits, has the shard apply it, hands the results over at once."""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import apsw
from evenflow.queue.v1 import queue_pb2

from services.queue.counts import DrainReport, ShardStats
from services.queue.database import DiskFull
from services.queue.domain import (
    Call,
    Command,
    Completion,
    EnqueueBatch,
    EnqueueResult,
    SettleBatch,
    SettleResult,
    Wake,
)
from services.queue.identity import ShardDamaged
from services.queue.shard import Shard
from services.queue.turns import Turns
from services.shared.errors import EvenflowError, Reason

T = TypeVar("T")
# Bounds of one transaction.
MAX_DRAIN_EVENTS = 4_000
MAX_DRAIN_BYTES = 16 << 20
# Opened anew so often within the window, the shard is quarantined: a damage that no check finds must not spin.
MAX_REOPENS = 5
REOPEN_WINDOW_SECONDS = 60.0
# After these every page is checked before the shard is served again.
SUSPICIOUS = (apsw.CorruptError, apsw.NotADBError)
State = queue_pb2.ShardState
UNAVAILABLE_RETRY_MS = 500
# No command: the shard drains because it is time.
_TIME: Command = Wake()
log = logging.getLogger(__name__)


class ShardWriter:
    """A shard with its thread. `open_shard` and `close_shard` run on that thread; everything else is for the loop."""

    def __init__(
        self,
        shard_id: int,
        *,
        open_shard: Callable[[bool], Shard],
        close_shard: Callable[[Shard, bool], None],
        check_file: Callable[[Shard], None],
        release_file: Callable[[], None],
        on_drained: Callable[[int, DrainReport], None],
        turns: Turns,
    ) -> None:
        """`open_shard` is told whether the file showed damage, `close_shard` whether it is whole; `check_file` raises
        ShardDamaged when it is gone; `release_file` lets somebody else repair it."""
        self.shard_id = shard_id
        self.state: queue_pb2.ShardState.ValueType = State.SHARD_STATE_OPENING
        self.state_reason = ""
        self.stats: ShardStats | None = None
        self.opened = asyncio.Event()
        self._open_shard = open_shard
        self._close_shard = close_shard
        self._check_file = check_file
        self._release_file = release_file
        self._on_drained = on_drained
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        # SimpleQueue: C code, no lock of Python's taken by the loop.
        self._inbox: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=f"shard-{shard_id}", daemon=True)
        self._after: ShardWriter | None = None
        self._is_suspect = False
        # When the shard was opened anew lately, on the monotonic clock.
        self._reopens: deque[float] = deque(maxlen=MAX_REOPENS)

    def start(self, after: "ShardWriter | None" = None) -> None:
        """Open the file and serve, on a thread of its own; once `after`, which is quarantined, has ended."""
        self._after = after
        self._thread.start()

    def submit(self, command: Command) -> None:
        """Hand over a command; its reply is called on the loop. Safe from any thread."""
        self._inbox.put(command)

    def refusal(self) -> EvenflowError | None:
        """Why this shard cannot be used now, or None."""
        if self._is_stopping:
            text = f"shard {self.shard_id} is being closed: look at the shard map"
            metadata = {"shard_id": str(self.shard_id)}
            return EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, text, UNAVAILABLE_RETRY_MS, metadata)
        if self.state in (State.SHARD_STATE_SERVING, State.SHARD_STATE_DRAINING):
            return None
        name = State.Name(self.state).removeprefix("SHARD_STATE_").lower()
        message = f"shard {self.shard_id} is {name}: use another shard"
        metadata = {"shard_id": str(self.shard_id)}
        return EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, message, UNAVAILABLE_RETRY_MS, metadata)

    async def call(self, run: Callable[[Shard], T], *, writes: bool = False) -> T:
        """Run this on the shard's thread. With `writes` in one transaction; a returned callable then runs after it.

        EvenflowError: refused, or the shard is not served.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        answer: asyncio.Future[Any] = self._loop.create_future()

        def reply(result: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

        self.submit(Call(run, reply, writes))
        result: T = await answer
        return result

    async def drain(self) -> None:
        """Take no events, deliver no leases; settles go on."""
        if self.refusal() is None:
            self.state = State.SHARD_STATE_DRAINING
            await self.call(_start_draining)

    async def stop(self) -> None:
        """Close the file and end the thread; what comes meanwhile is refused."""
        self._is_stopping = True
        self._inbox.put(None)
        await self._ended.wait()
        self._thread.join()
        while not self._inbox.empty():
            command = self._inbox.get()
            if command is not None:
                self._fail([command], was_tried=False)

    def end(self) -> None:
        """Close the file and wait for the thread; not for the loop."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            if self._after is not None:
                self._after.end()
                self._after = None
            while self._serve_until_failure():
                log.warning("opening the shard anew", extra={"shard_id": self.shard_id})
        except BaseException:
            log.exception("the shard's thread failed", extra={"shard_id": self.shard_id})
            self._set_state(State.SHARD_STATE_QUARANTINED, "its thread failed: see the log")
        finally:
            self._post([(self._ended.set, ())])

    def _serve_until_failure(self) -> bool:
        """Open and serve; True when the shard has to be opened anew."""
        try:
            shard = self._open_shard(self._is_suspect)
        except (ShardDamaged, apsw.Error, OSError, ValueError) as e:
            self._quarantine(str(e))
            return False
        self._set_state(State.SHARD_STATE_SERVING, "")
        commands: list[Command] = []
        is_stopping = False
        try:
            while True:
                first = self._wait(shard)
                with self._turns.taken():
                    # What came while another shard had its turn is in the same commit.
                    commands, is_stopping = self._collect(first)
                    completions, report = shard.drain(commands)
                    commands = []
                    self.stats = shard.stats()
                if completions:
                    self._post([*completions, (self._on_drained, (self.shard_id, report))])
                self._check_file(shard)
                shard.checkpoint_if_due()
                if is_stopping:
                    break
        except ShardDamaged as e:
            self._fail(commands)
            self._close(shard, is_whole=False)
            self._quarantine(str(e))
            return False
        except Exception as e:
            log.exception("the shard stops: %s", e, extra={"shard_id": self.shard_id})
            self._set_state(State.SHARD_STATE_OPENING, str(e))
            self._fail(commands)
            self._close(shard, is_whole=False)
            if is_stopping:
                return False
            self._is_suspect = isinstance(e, SUSPICIOUS) or isinstance(e.__cause__, SUSPICIOUS)
            return self._may_reopen(e, shard)
        self._close(shard, is_whole=True)
        return False

    def _wait(self, shard: Shard) -> Command | None:
        """The next command; `_TIME` when time makes the shard drain without one."""
        wait_seconds = shard.seconds_until_due()
        if wait_seconds <= 0:
            return _TIME
        try:
            return self._inbox.get(timeout=wait_seconds)
        except queue.Empty:
            return _TIME

    def _collect(self, command: Command | None) -> tuple[list[Command], bool]:
        """The command and what waits behind it, within the bounds of one transaction; True: the shard stops."""
        inbox = self._inbox
        commands: list[Command] = []
        events = size = 0
        while command is not None:
            if command is not _TIME:
                commands.append(command)
            if isinstance(command, EnqueueBatch):
                events += len(command.entries)
                size += command.payload_bytes
            elif isinstance(command, SettleBatch):
                events += len(command.settles)
                size += command.payload_bytes
            if events >= MAX_DRAIN_EVENTS or size >= MAX_DRAIN_BYTES:
                return commands, False
            try:
                command = inbox.get_nowait()
            except queue.Empty:
                return commands, False
        return commands, True

    def _may_reopen(self, error: Exception, shard: Shard) -> bool:
        """Whether to open the shard anew; one that fails again and again is set aside."""
        now = time.monotonic()
        if len(self._reopens) == MAX_REOPENS and now - self._reopens[0] < REOPEN_WINDOW_SECONDS:
            self._quarantine(
                f"it failed {MAX_REOPENS + 1} times within {REOPEN_WINDOW_SECONDS:.0f} s, at last with: {error}; "
                f"{shard.depth} unfinished events and {shard.dead_count} dead letters are in it"
            )
            return False
        self._reopens.append(now)
        return True

    def _quarantine(self, reason: str) -> None:
        log.error("quarantined: %s", reason, extra={"shard_id": self.shard_id})
        self._release_file()
        self.stats = None
        self._set_state(State.SHARD_STATE_QUARANTINED, reason)
        # Whoever asked while the file was being opened is told; until the end, as callers may be in flight.
        while (command := self._inbox.get()) is not None:
            self._fail([command], was_tried=False)

    def _fail(self, commands: list[Command], *, was_tried: bool = True) -> None:
        if was_tried:
            message = "the commit failed and may have happened: repeat with the same ids on the same shard"
            error = EvenflowError(Reason.ERROR_REASON_OUTCOME_UNKNOWN, message, UNAVAILABLE_RETRY_MS)
        else:
            error = EvenflowError(Reason.ERROR_REASON_SHARD_UNAVAILABLE, f"shard {self.shard_id} is not served")
        completions: list[Completion] = []
        for command in commands:
            if isinstance(command, EnqueueBatch):
                completions.append((command.reply, (EnqueueResult(refusal=error),)))
            elif isinstance(command, SettleBatch):
                completions.append((command.reply, (SettleResult(refusal=error),)))
            elif isinstance(command, Call):
                completions.append((command.reply, (None, error)))
        self._post(completions)

    def _close(self, shard: Shard, *, is_whole: bool) -> None:
        for entry in shard.leases.values():
            key = entry.lane.key
            shard.wake_others(entry.session.release(key, 1), key)
        try:
            self._close_shard(shard, is_whole)
        except (apsw.Error, OSError, DiskFull) as e:
            log.warning("the shard did not close cleanly: %s", e, extra={"shard_id": self.shard_id})

    def _set_state(self, state: "queue_pb2.ShardState.ValueType", reason: str) -> None:
        def apply() -> None:
            self.state, self.state_reason = state, reason
            if state != State.SHARD_STATE_OPENING:
                self.opened.set()
            self._on_drained(self.shard_id, DrainReport())

        self._post([(apply, ())])

    def _post(self, completions: list[Completion]) -> None:
        try:
            self._loop.call_soon_threadsafe(_run_all, completions)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            return


def wake_all(writer: ShardWriter) -> None:
    """Have the shard look at every lane again."""
    writer.submit(Wake(None))


def _run_all(completions: list[Completion]) -> None:
    for function, arguments in completions:
        try:
            function(*arguments)
        except Exception:
            log.exception("a reply failed")


def _start_draining(shard: Shard) -> None:
    shard.is_draining = True
