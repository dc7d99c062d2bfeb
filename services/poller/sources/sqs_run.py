"""Runs one batch of a queue through its function and settles it: what succeeded is deleted, the rest comes back."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2

from services.policy.backoff import equal_jitter_ms
from services.policy.sqs_events import failed_ids
from services.poller.sources.invoker import Call, may_help, nothing_ran
from services.poller.sources.sqs_batch import Batch
from services.poller.sources.sqs_queue import SqsQueue
from services.poller.sources.telemetry import SqsTelemetry
from services.shared.clock import Clock
from services.shared.errors import EvenflowError, Reason

DELETE_TRIES = 4
DELETE_BASE_MS = 200.0
MAX_THROTTLE_WAIT_MS = 30_000.0
_THROTTLES = (Reason.ERROR_REASON_CONCURRENCY_EXCEEDED, Reason.ERROR_REASON_RESERVED_CONCURRENCY_EXCEEDED)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunMeans:
    """What runs need from outside. `wait`: for so many seconds, or until the source ends."""

    invoke: Callable[[Call], Awaitable[event_pb2.Outcome]]
    clock: Clock
    draw: Callable[[], float]
    telemetry: SqsTelemetry
    throttle_base_ms: float
    throttle_cap_ms: float


class BatchRuns:
    """The runs of one mapping.

    A throttled batch waits here and is tried again while its messages are surely invisible to others; after that they
    come back by themselves. After a refusal for good they come back when the queue's own timeout would bring them. A
    refusal that does not say that nothing ran is not repeated here: the function may run, so they stay hidden.
    """

    def __init__(
        self,
        means: RunMeans,
        source: resources_pb2.EventSource,
        queue: SqsQueue,
        names: dict[str, str],
        *,
        on_throttle: Callable[[], None],
        wait: Callable[[float], Awaitable[None]],
        is_ending: Callable[[], bool],
    ) -> None:
        """`names`: of the mapping's series. `wait`: for so many seconds, or until the mapping ends."""
        self._means = means
        self._source = source
        self._queue = queue
        self._names = names
        self._on_throttle = on_throttle
        self._wait = wait
        self._is_ending = is_ending
        self.running = 0
        self.done_total = 0
        self.last_error = ""

    async def run(self, batch: Batch, timeout_ms: int, return_after_ms: Callable[[], float | None]) -> None:
        """Run the batch and settle it. `return_after_ms`: when failed records are to be visible again."""
        outcome, may_return = await self._invoke(batch, timeout_ms)
        telemetry, names = self._means.telemetry, self._names
        if outcome is None:
            failed = set(batch.ids)
        elif outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
            telemetry.batch(names, "function_error")
            self.last_error = f"{outcome.error_type}: {outcome.error_message}"[:1_024]
            failed = set(batch.ids)
        else:
            telemetry.batch(names, "succeeded")
            self.last_error = ""
            failed = set()
            if self._source.sqs.report_batch_item_failures:
                failed = set(failed_ids(outcome.response_payload, batch.ids))
        await self._settle(batch, failed, return_after_ms() if may_return else None)

    async def _invoke(self, batch: Batch, timeout_ms: int) -> tuple[event_pb2.Outcome | None, bool]:
        """The outcome, None: nothing is known, or nothing ran; and whether records may be given back to the queue."""
        means, source = self._means, self._source
        depth = batch.chain_depth
        lineage = event_pb2.Lineage(chain_depth=depth) if depth else None
        call = Call(source.tenant_id, source.function_name, source.qualifier, batch.payload, timeout_ms, lineage)
        failures = 0
        while True:
            if batch.expires_ms - means.clock.monotonic_ms() <= timeout_ms:
                means.telemetry.batch(self._names, "expired")
                return None, False
            try:
                self.running += 1
                try:
                    return await means.invoke(call), True
                finally:
                    self.running -= 1
            except EvenflowError as e:
                self.last_error = e.message
                if not may_help(e):
                    means.telemetry.batch(self._names, "refused")
                    log.warning(
                        "a batch of %s was not run to an end that is known; its records come back: %s",
                        self._queue.queue_arn,
                        e.message,
                    )
                    return None, nothing_ran(e)
                means.telemetry.batch(self._names, "throttled")
                if e.reason in _THROTTLES:
                    self._on_throttle()
                failures += 1
                wait_ms = equal_jitter_ms(failures, means.throttle_base_ms, self._cap_ms(), means.draw())
                await self._wait(max(wait_ms, min(e.retry_after_ms, self._cap_ms())) / 1_000)
                if self._is_ending():
                    # Nothing ran: another owner may have them at once.
                    await self._queue.give_back(batch.receipts, 0)
                    return None, False

    def _cap_ms(self) -> float:
        return min(MAX_THROTTLE_WAIT_MS, self._means.throttle_cap_ms)

    async def _settle(self, batch: Batch, failed: set[str], return_after_ms: float | None) -> None:
        telemetry, names = self._means.telemetry, self._names
        left = [record.receipt for record in batch.records if record.message_id not in failed]
        undeleted = await self._delete(left)
        self.done_total += len(left) - undeleted
        telemetry.records(names, "deleted", len(left) - undeleted)
        telemetry.records(names, "undeleted", undeleted)
        telemetry.records(names, "failed", len(failed))
        back = [record.receipt for record in batch.records if record.message_id in failed]
        if back and return_after_ms is not None:
            # Best effort: their visibility timeout does the same, later.
            await self._queue.give_back(back, return_after_ms / 1_000)

    async def _delete(self, receipts: list[str]) -> int:
        """How many could not be deleted: they come back, and run once more."""
        for tries in range(1, DELETE_TRIES + 1):
            if not receipts:
                return 0
            receipts = await self._queue.delete(receipts)
            if receipts and tries < DELETE_TRIES:
                # Also while the source ends: what ran is to be deleted.
                await asyncio.sleep(equal_jitter_ms(tries, DELETE_BASE_MS, 5_000.0, self._means.draw()) / 1_000)
        if receipts:
            log.warning("%d records of %s could not be deleted and run again", len(receipts), self._queue.queue_arn)
        return len(receipts)
