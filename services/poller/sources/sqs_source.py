"""One SQS mapping while this poller owns it: lanes that collect a batch, run it and take the next.

At an empty queue one lane waits in a long poll. While there is work, lanes are added up to what may run at once, so
that a lane is always receiving while the others' batches run.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.policy.backoff import equal_jitter_ms
from services.policy.filters import SqsFilter
from services.policy.lineage import is_stopped
from services.policy.sqs_events import DEFAULT_BATCH_SIZE, Growth, record_of
from services.poller.settings import PollerSettings
from services.poller.sources.errands import names_of
from services.poller.sources.running import Ownership
from services.poller.sources.sqs_batch import Batch, Record
from services.poller.sources.sqs_queue import MAX_PER_CALL, SqsQueue
from services.poller.sources.sqs_run import BatchRuns, RunMeans
from services.poller.sources.sqs_visibility import Visibility
from services.shared.errors import EvenflowError

# Lanes of one mapping that receive at once while every receive brings all that it may.
MAX_RECEIVING = 4
RETRY_BASE_MS = 500.0
RETRY_CAP_MS = 30_000.0
# At a queue that may not be waited at, or with a function that is not there.
IDLE_SECONDS = 1.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Room:
    """Bytes of records that all mappings of a poller hold; past the bound nothing more is received."""

    bound_bytes: int
    held_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether to receive nothing now. Receives under way may go past the bound, by 10 messages each."""
        return self.held_bytes >= self.bound_bytes


@dataclass(frozen=True, slots=True)
class SqsMeans:
    """What the mappings of a poller share. `timeout_ms`: of a function's version; None: it is not known.

    `wait_seconds`: how long a receive may wait, which is less when mappings are many.
    """

    settings: PollerSettings
    run: RunMeans
    room: Room
    timeout_ms: Callable[[str, str, str], int | None]
    allows_recursion: Callable[[str, str], bool]
    wait_seconds: Callable[[], int]


class SqsSource:
    """See RunningSource."""

    def __init__(self, means: SqsMeans, queue: SqsQueue, ownership: Ownership) -> None:
        source = self.source = ownership.source
        self.names = {
            "source": source.source_id,
            "queue": source.sqs.queue_arn.rpartition(":")[2],
            "function": source.function_name,
            "tenant": source.tenant_id,
        }
        self.is_failed = False
        self._means = means
        self._queue = queue
        self._clock = means.run.clock
        self._remaining_ms = ownership.remaining_ms
        self._filter = SqsFilter(source.filter_patterns)
        self._batch_size = source.sqs.batch_size or DEFAULT_BATCH_SIZE
        self._window_ms = source.sqs.maximum_batching_window_seconds * 1_000.0
        bound = source.sqs.maximum_concurrency or means.settings.source_sqs_batches
        self._growth = Growth(bound, self._clock.monotonic_ms())
        self._ended = asyncio.Event()
        self._runs = BatchRuns(
            means.run,
            source,
            queue,
            self.names,
            on_throttle=self._growth.throttled,
            wait=self._wait,
            is_ending=self._ended.is_set,
        )
        self._lanes: set[asyncio.Task[None]] = set()
        self._receiving = 0
        self._is_flowing = False
        self._failures = 0
        self._error = ""
        margin_seconds = means.settings.source_sqs_margin_seconds
        self._visibility = Visibility(queue, source.function_name, self._window_ms, margin_seconds, self._clock)

    @property
    def submitted_total(self) -> int:
        """Records that were done with."""
        return self._runs.done_total

    @property
    def last_error(self) -> str:
        """See RunningSource."""
        return self._error or self._runs.last_error

    @property
    def running(self) -> int:
        """Batches at the function now."""
        return self._runs.running

    @property
    def is_over(self) -> bool:
        """See RunningSource."""
        return self._ended.is_set() and not self._lanes

    def renew(self, epoch: int) -> None:
        """See RunningSource: the queue itself keeps its messages from two owners."""

    def step(self) -> None:
        """See RunningSource."""
        is_busy = len(self._lanes) >= self._growth.batches and self._receiving == 0
        self._growth.pass_time(self._clock.monotonic_ms(), is_busy=is_busy)
        self._add_lane()

    def retire(self) -> None:
        """See RunningSource: what was received and not begun goes back at once."""
        self._ended.set()

    async def close(self) -> None:
        """See RunningSource: messages of what still runs come back after their visibility timeout."""
        self.retire()
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    # --- lanes

    def _add_lane(self) -> None:
        wanted = MAX_RECEIVING if self._is_flowing else 1
        if self._ended.is_set() or self.is_failed or self._receiving >= wanted:
            return
        if len(self._lanes) < self._growth.batches:
            # Counted here: the task begins later.
            self._receiving += 1
            lane = asyncio.create_task(self._lane(), name=f"sqs {self.source.source_id}")
            self._lanes.add(lane)
            lane.add_done_callback(self._lane_ended)

    async def _lane(self) -> None:
        try:
            found = await self._collect()
        finally:
            self._receiving -= 1
        if found is None:
            return
        batch, timeout_ms = found
        # Somebody receives while this one runs.
        self._add_lane()
        received_ms = self._clock.monotonic_ms()
        try:
            for part in batch.split():
                await self._runs.run(
                    part, timeout_ms, lambda: self._visibility.return_after_ms(received_ms, timeout_ms)
                )
        finally:
            self._means.room.held_bytes -= batch.record_bytes

    def _lane_ended(self, lane: "asyncio.Task[None]") -> None:
        self._lanes.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            self.is_failed = True
            log.error("source %s has to begin anew: %s", names_of(self.source), error, exc_info=error)
        elif not self._ended.is_set():
            self._add_lane()

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            pass

    # --- collecting a batch

    async def _collect(self) -> tuple[Batch, int] | None:
        """A batch and the timeout that its function has; None: there is none now."""
        source = self.source
        timeout_ms = self._means.timeout_ms(source.tenant_id, source.function_name, source.qualifier)
        if timeout_ms is None:
            self._error = f"function {source.function_name} {source.qualifier} is not there"
            await self._wait(IDLE_SECONDS)
            return None
        if self._means.room.is_full or self._remaining_ms() <= 0:
            await self._wait(IDLE_SECONDS / 10)
            return None
        try:
            await self._visibility.look(timeout_ms)
            batch = await self._fill(timeout_ms)
        except EvenflowError as e:
            await self._failed(e)
            return None
        self._failures, self._error = 0, ""
        if not batch.records:
            return None
        if self._ended.is_set():
            self._means.room.held_bytes -= batch.record_bytes
            await self._queue.give_back(batch.receipts, 0)
            return None
        return batch, timeout_ms

    async def _fill(self, timeout_ms: int) -> Batch:
        batch = Batch(0.0)
        try:
            await self._fill_up(batch, timeout_ms)
        except BaseException:
            self._means.room.held_bytes -= batch.record_bytes
            raise
        return batch

    async def _fill_up(self, batch: Batch, timeout_ms: int) -> None:
        window_ends_ms = 0.0
        wait_seconds = self._means.wait_seconds()
        while True:
            count = min(MAX_PER_CALL, self._batch_size - len(batch.records))
            began_ms = self._clock.monotonic_ms()
            try:
                messages = await self._queue.receive(count, self._visibility.seconds(timeout_ms), wait_seconds)
                await self._take(messages, batch)
            except EvenflowError:
                if not batch.records:
                    raise
                # What is here can run; the next receive tells the trouble.
                return
            now_ms = self._clock.monotonic_ms()
            self._is_flowing = len(messages) == count
            if not batch.records:
                if not messages:
                    self._growth.emptied()
                    # At once: it may not wait at the queue, or the queue does not.
                    if now_ms - began_ms < IDLE_SECONDS * 1_000 / 2:
                        await self._wait(IDLE_SECONDS)
                return
            if not batch.expires_ms:
                # From before the receive, so that it is never later than SQS has it.
                batch.expires_ms = began_ms + self._visibility.seconds(timeout_ms) * 1_000
                window_ends_ms = now_ms + self._window_ms
            left_ms = window_ends_ms - now_ms
            is_enough = len(batch.records) >= self._batch_size or batch.is_full or self._means.room.is_full
            # Without a window a batch takes what is there.
            if is_enough or self._ended.is_set() or (left_ms <= 0 and not (self._is_flowing and not self._window_ms)):
                return
            wait_seconds = min(self._means.wait_seconds(), max(0, math.floor(left_ms / 1_000)))
            if not messages and not wait_seconds:
                await self._wait(min(left_ms / 1_000, IDLE_SECONDS))

    async def _take(self, messages: Sequence[Mapping[str, Any]], batch: Batch) -> None:
        telemetry = self._means.run.telemetry
        telemetry.records(self.names, "received", len(messages))
        unwanted = []
        allows_recursion = self._means.allows_recursion(self.source.tenant_id, self.source.function_name)
        for message in messages:
            record = record_of(message, self._queue.queue_arn, self._queue.region)
            if not self._filter.passes(record):
                unwanted.append(record["receiptHandle"])
                continue
            made = Record.of(record)
            if is_stopped(made.chain_depth, allows_recursion=allows_recursion):
                # It goes the way of what fails: the queue's redrive policy gets it in the end.
                telemetry.records(self.names, "recursion_stopped", 1)
                log.error("a chain of functions through %s is stopped: it goes in a circle", self._queue.queue_arn)
            elif made.is_too_large:
                telemetry.records(self.names, "too_large", 1)
                log.error("message %s of %s is too large for an event", made.message_id, self._queue.queue_arn)
            else:
                batch.add(made)
                self._means.room.held_bytes += len(made.encoded)
        if unwanted:
            # As on AWS: who filters does not want to see them again.
            left = await self._queue.delete(unwanted)
            telemetry.records(self.names, "filtered", len(unwanted) - len(left))

    async def _failed(self, error: EvenflowError) -> None:
        self._failures += 1
        if error.message != self._error:
            log.warning("queue %s: %s", self._queue.queue_arn, error.message)
        self._error = error.message
        await self._wait(equal_jitter_ms(self._failures, RETRY_BASE_MS, RETRY_CAP_MS, self._means.run.draw()) / 1_000)
