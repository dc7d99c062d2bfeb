"""Collects batches from a queue: one receive after the other, or several at once while the queue has plenty."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from evenflow.control.v1 import resources_pb2

from services.policy.filters import FilterTooCostly, SqsFilter
from services.policy.lineage import is_stopped
from services.policy.sqs_events import DEFAULT_BATCH_SIZE, record_of
from services.poller.sources.sqs_batch import Batch, Record, Room
from services.poller.sources.sqs_queue import MAX_PER_CALL, SqsQueue
from services.poller.sources.sqs_visibility import Visibility
from services.poller.sources.telemetry import SqsTelemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError

# Receives of one mapping at once while every receive brings all that it may.
MAX_RECEIVING = 4
# At a queue that answers at once that it has nothing.
IDLE_SECONDS = 1.0
log = logging.getLogger(__name__)


class Collector:
    """Of one mapping. `is_empty`: the last receive brought nothing."""

    def __init__(
        self,
        source: resources_pb2.EventSource,
        queue: SqsQueue,
        visibility: Visibility,
        room: Room,
        telemetry: SqsTelemetry,
        names: dict[str, str],
        clock: Clock,
        filtering_threads: Executor,
        *,
        wait_seconds: Callable[[], int],
        allows_recursion: Callable[[], bool],
        wait: Callable[[float], Awaitable[None]],
        is_ending: Callable[[], bool],
    ) -> None:
        """`wait_seconds`: how long a receive may wait now. `wait`: for so many seconds, or until the mapping ends."""
        self._queue = queue
        self._visibility = visibility
        self._room = room
        self._telemetry = telemetry
        self._names = names
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._allows_recursion = allows_recursion
        self._wait = wait
        self._is_ending = is_ending
        self._filtering_threads = filtering_threads
        self._filter = SqsFilter(source.filter_patterns)
        self._batch_size = source.sqs.batch_size or DEFAULT_BATCH_SIZE
        self._window_ms = source.sqs.maximum_batching_window_seconds * 1_000.0
        self._is_flowing = False
        self.is_empty = False

    @property
    def collecting(self) -> int:
        """How many batches may be collected at once: one that takes many receives gets all of them."""
        return MAX_RECEIVING if self._is_flowing and self._batch_size <= MAX_PER_CALL else 1

    async def collect(self, timeout_ms: int) -> Batch:
        """A batch, perhaps an empty one; its bytes are counted in the room. EvenflowError: the queue has trouble."""
        batch = Batch(math.inf)
        try:
            await self._fill(batch, timeout_ms)
        except BaseException:
            self._room.held_bytes -= batch.record_bytes
            raise
        return batch

    async def _fill(self, batch: Batch, timeout_ms: int) -> None:
        wait_seconds, window_ends_ms = self._wait_seconds(), 0.0
        while True:
            asked_ms = self._clock.monotonic_ms()
            try:
                messages = await self._receive(self._batch_size - len(batch.records), timeout_ms, wait_seconds)
            except EvenflowError:
                if not batch.records:
                    raise
                # What is here can run; the next receive tells the trouble.
                return
            now_ms = self._clock.monotonic_ms()
            self.is_empty = not messages
            if not batch.records:
                window_ends_ms = now_ms + self._window_ms
                batch.expires_ms = self._visibility.expires_ms(asked_ms, now_ms, timeout_ms)
            await self._take(messages, batch)
            if not batch.records:
                if not messages and now_ms - asked_ms < IDLE_SECONDS * 1_000 / 2:
                    await self._wait(IDLE_SECONDS)
                return
            left_ms = window_ends_ms - now_ms
            # Without a window a batch takes what is there.
            has_time = left_ms > 0 or (not self._window_ms and self._is_flowing)
            is_enough = len(batch.records) >= self._batch_size or batch.is_full or self._room.is_full
            if is_enough or not has_time or self._is_ending():
                return
            wait_seconds = min(self._wait_seconds(), max(0, math.floor(left_ms / 1_000)))
            if not messages and not wait_seconds:
                await self._wait(min(left_ms / 1_000, IDLE_SECONDS))

    async def _receive(self, wanted: int, timeout_ms: int, wait_seconds: int) -> list[Mapping[str, Any]]:
        """At most `wanted` messages. EvenflowError: none came, and a receive failed."""
        calls = min(MAX_RECEIVING if self._is_flowing else 1, math.ceil(wanted / MAX_PER_CALL))
        counts = [min(MAX_PER_CALL, wanted - call * MAX_PER_CALL) for call in range(calls)]
        seconds = self._visibility.seconds(timeout_ms)
        answers = await asyncio.gather(
            *(self._queue.receive(count, seconds, wait_seconds) for count in counts), return_exceptions=True
        )
        messages: list[Mapping[str, Any]] = []
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for answer in answers:
            if not isinstance(answer, BaseException):
                messages.extend(answer)
        unexpected = [failure for failure in failures if not isinstance(failure, EvenflowError)]
        if unexpected or (failures and not messages):
            raise (unexpected or failures)[0]
        self._is_flowing = len(messages) == sum(counts)
        return messages

    async def _take(self, messages: Sequence[Mapping[str, Any]], batch: Batch) -> None:
        telemetry, names = self._telemetry, self._names
        telemetry.records(names, "received", len(messages))
        unwanted = []
        allows_recursion = self._allows_recursion()
        for message in messages:
            record = record_of(message, self._queue.queue_arn, self._queue.region)
            try:
                if not await self._passes(record):
                    unwanted.append(record["receiptHandle"])
                    continue
            except FilterTooCostly as e:
                # Neither wanted nor unwanted: as with one that is too large, the queue's redrive policy gets it.
                telemetry.records(names, "filter_too_costly", 1)
                log.error("message %s of %s is not run: %s", record["messageId"], self._queue.queue_arn, e)
                continue
            made = Record.of(record)
            if is_stopped(made.chain_depth, allows_recursion=allows_recursion):
                # It goes the way of what fails: the queue's redrive policy gets it in the end.
                telemetry.records(names, "recursion_stopped", 1)
                log.error("a chain of functions through %s is stopped: it goes in a circle", self._queue.queue_arn)
            elif made.is_too_large:
                telemetry.records(names, "too_large", 1)
                log.error("message %s of %s is too large for an event", made.message_id, self._queue.queue_arn)
            else:
                batch.add(made)
                self._room.held_bytes += len(made.encoded)
        if unwanted:
            # As on AWS: who filters does not want to see them again.
            left = await self._queue.delete(unwanted)
            telemetry.records(names, "filtered", len(unwanted) - len(left))

    async def _passes(self, record: Mapping[str, Any]) -> bool:
        if self._filter.is_quick(record):
            return self._filter.passes(record)
        # All leases of this poller are renewed on the loop.
        return await asyncio.get_running_loop().run_in_executor(self._filtering_threads, self._filter.passes, record)
