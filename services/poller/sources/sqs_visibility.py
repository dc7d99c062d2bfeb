"""How long a mapping keeps messages from others: the queue's visibility timeout, or longer where a run needs it."""

import logging
import math

from services.poller.sources.sqs_queue import DEFAULT_VISIBILITY_SECONDS, MAX_VISIBILITY_SECONDS, SqsQueue
from services.shared.clock import Clock
from services.shared.errors import EvenflowError

# How often the queue is asked.
LOOK_AGAIN_MS = 300_000.0
# An answer of SQS is at most so old when it is read.
MAX_ANSWER_AGE_MS = 2_000.0
log = logging.getLogger(__name__)


class Visibility:
    """Of one mapping. AWS refuses a queue whose timeout is less than its function's; here it is made up for."""

    def __init__(
        self, queue: SqsQueue, function_name: str, window_ms: float, margin_seconds: int, clock: Clock
    ) -> None:
        """`margin_seconds`: beyond timeout and window, for the way to the function."""
        self._margin_seconds = margin_seconds
        self._queue = queue
        self._function_name = function_name
        self._window_ms = window_ms
        self._clock = clock
        self._own_seconds = DEFAULT_VISIBILITY_SECONDS
        self._due_ms = 0.0
        self._is_warned = False

    async def look(self, timeout_ms: int) -> None:
        """Ask the queue for its timeout, now and then. `timeout_ms`: the function's."""
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._due_ms:
            return
        self._due_ms = now_ms + LOOK_AGAIN_MS
        try:
            self._own_seconds = await self._queue.visibility_seconds()
        except EvenflowError as e:
            log.warning("the visibility timeout of %s cannot be read: %s", self._queue.queue_arn, e.message)
            return
        if self._own_seconds * 1_000 < timeout_ms and not self._is_warned:
            self._is_warned = True
            log.warning(
                "queue %s: its visibility timeout of %d s is less than the timeout of function %s, %.0f s: messages "
                "are kept invisible for longer; set it to six times the function's timeout, as AWS advises",
                self._queue.queue_arn,
                self._own_seconds,
                self._function_name,
                timeout_ms / 1_000,
            )

    def seconds(self, timeout_ms: int) -> int:
        """What to ask for with a receive."""
        needed = math.ceil((timeout_ms + self._window_ms) / 1_000) + self._margin_seconds
        return min(MAX_VISIBILITY_SECONDS, max(self._own_seconds, needed))

    def expires_ms(self, asked_ms: float, answered_ms: float, timeout_ms: int) -> float:
        """When messages become visible to others, of a receive that was asked and answered then.

        A long poll's messages are hidden from when they were handed out, shortly before the answer.
        """
        return max(asked_ms, answered_ms - MAX_ANSWER_AGE_MS) + self.seconds(timeout_ms) * 1_000

    def return_after_ms(self, received_ms: float, timeout_ms: int) -> float | None:
        """When failed records are to come back, as if the queue's own timeout had been used; None: it was."""
        if self.seconds(timeout_ms) <= self._own_seconds:
            return None
        return max(0.0, self._own_seconds * 1_000 - (self._clock.monotonic_ms() - received_ms))
