"""One SQS mapping while this poller owns it: cycles, each of which collects a batch, runs it and settles it.

At an empty queue one cycle waits in a long poll. While there is work, cycles are added up to what may run at once, so
that one is always receiving while the others' batches run.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from services.policy.backoff import equal_jitter_ms
from services.policy.sqs_events import Growth
from services.poller.settings import PollerSettings
from services.poller.sources.errands import names_of
from services.poller.sources.running import Ownership
from services.poller.sources.sqs_batch import Batch, Room
from services.poller.sources.sqs_collecting import IDLE_SECONDS, Collector
from services.poller.sources.sqs_queue import SqsQueue
from services.poller.sources.sqs_run import BatchRuns, RunMeans
from services.poller.sources.sqs_visibility import Visibility
from services.shared.errors import EvenflowError

RETRY_BASE_MS = 500.0
RETRY_CAP_MS = 30_000.0
log = logging.getLogger(__name__)


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
    filtering_threads: Executor


class SqsSource:
    """See RunningSource."""

    def __init__(
        self, means: SqsMeans, queue: SqsQueue, ownership: Ownership, before: Iterable["SqsSource"] = ()
    ) -> None:
        """`before`: the same mapping as it was, whose batches still run and count against the maximum concurrency."""
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
        self._before = list(before)
        self._bound = source.sqs.maximum_concurrency or means.settings.source_sqs_batches
        self._growth = Growth(self._bound, self._clock.monotonic_ms())
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
        self._cycles: set[asyncio.Task[None]] = set()
        self._receiving = 0
        self._failures = 0
        self._error = ""
        window_ms = source.sqs.maximum_batching_window_seconds * 1_000.0
        margin_seconds = means.settings.source_sqs_margin_seconds
        self._visibility = Visibility(queue, source.function_name, window_ms, margin_seconds, self._clock)
        self._collector = Collector(
            source,
            queue,
            self._visibility,
            means.room,
            means.run.telemetry,
            self.names,
            self._clock,
            means.filtering_threads,
            wait_seconds=means.wait_seconds,
            allows_recursion=partial(means.allows_recursion, source.tenant_id, source.function_name),
            wait=self._wait,
            is_ending=self._ended.is_set,
        )

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
    def under_way(self) -> int:
        """Batches that were collected and are not settled."""
        return len(self._cycles) - self._receiving

    @property
    def is_over(self) -> bool:
        """See RunningSource."""
        return self._ended.is_set() and not self._cycles

    def renew(self, epoch: int, done_until_ms: int) -> None:
        """See RunningSource: the queue itself keeps its messages from two owners."""

    def step(self) -> None:
        """See RunningSource."""
        is_busy = len(self._cycles) >= self._growth.batches and self._receiving == 0
        self._growth.pass_time(self._clock.monotonic_ms(), is_busy=is_busy)
        self._add_cycle()

    def retire(self) -> None:
        """See RunningSource: what was received and not begun goes back at once."""
        self._ended.set()

    async def close(self) -> None:
        """See RunningSource: messages of what still runs come back after their visibility timeout."""
        self.retire()
        for cycle in self._cycles:
            cycle.cancel()
        await asyncio.gather(*self._cycles, return_exceptions=True)

    # --- cycles

    def _add_cycle(self) -> None:
        wanted = self._collector.collecting
        if self._ended.is_set() or self.is_failed or self._receiving >= wanted:
            return
        if len(self._cycles) < min(self._growth.batches, self._bound - self._under_way_before()):
            # Counted here: the task begins later.
            self._receiving += 1
            cycle = asyncio.create_task(self._cycle(), name=f"sqs {self.source.source_id}")
            self._cycles.add(cycle)
            cycle.add_done_callback(self._cycle_ended)

    def _under_way_before(self) -> int:
        if self._before:
            self._before = [one for one in self._before if not one.is_over]
        return sum(one.under_way for one in self._before)

    async def _cycle(self) -> None:
        try:
            found = await self._collect()
        finally:
            self._receiving -= 1
        if found is None:
            return
        batch, timeout_ms = found
        # Somebody receives while this one runs.
        self._add_cycle()
        return_after_ms = partial(self._visibility.return_after_ms, self._clock.monotonic_ms(), timeout_ms)
        try:
            for part in batch.split():
                await self._runs.run(part, timeout_ms, return_after_ms)
        finally:
            self._means.room.held_bytes -= batch.record_bytes

    def _cycle_ended(self, cycle: "asyncio.Task[None]") -> None:
        self._cycles.discard(cycle)
        if not cycle.cancelled() and (error := cycle.exception()) is not None:
            self.is_failed = True
            log.error("source %s has to begin anew: %s", names_of(self.source), error, exc_info=error)
        elif not self._ended.is_set():
            self._add_cycle()

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
            batch = await self._collector.collect(timeout_ms)
        except EvenflowError as e:
            await self._failed(e)
            return None
        self._failures, self._error = 0, ""
        if not batch.records:
            if self._collector.is_empty:
                self._growth.emptied()
            return None
        if self._ended.is_set():
            self._means.room.held_bytes -= batch.record_bytes
            await self._queue.give_back(batch.receipts, 0)
            return None
        return batch, timeout_ms

    async def _failed(self, error: EvenflowError) -> None:
        self._failures += 1
        if error.message != self._error:
            log.warning("queue %s: %s", self._queue.queue_arn, error.message)
        self._error = error.message
        await self._wait(equal_jitter_ms(self._failures, RETRY_BASE_MS, RETRY_CAP_MS, self._means.run.draw()) / 1_000)
