"""How long messages are kept from others, and when those of a long poll come back."""

from typing import Any

from services.poller.sources.sqs_visibility import MAX_ANSWER_AGE_MS, Visibility
from services.shared.clock import FakeClock

TIMEOUT_MS = 3_000


class Queue:
    """Its own visibility timeout, and how often it was asked."""

    queue_arn = "arn:aws:sqs:us-east-1:123456789012:q"

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.asked = 0

    async def visibility_seconds(self) -> int:
        self.asked += 1
        return self.seconds


async def visibility_of(seconds: int, window_ms: float = 0.0) -> tuple[Visibility, FakeClock, Queue]:
    queue: Any = Queue(seconds)
    clock = FakeClock()
    made = Visibility(queue, "f", window_ms, 10, clock)
    await made.look(TIMEOUT_MS)
    return made, clock, queue


async def test_the_queues_own_timeout_is_used_where_it_is_long_enough() -> None:
    """Else what timeout, window and margin need; failed records then come back as the queue's own timeout says."""
    longer, _, _ = await visibility_of(60)
    assert (longer.seconds(TIMEOUT_MS), longer.return_after_ms(0.0, TIMEOUT_MS)) == (60, None)
    shorter, clock, _ = await visibility_of(5, window_ms=20_000.0)
    assert shorter.seconds(TIMEOUT_MS) == 33
    received_ms = clock.monotonic_ms()
    clock.advance(2_000)
    assert shorter.return_after_ms(received_ms, TIMEOUT_MS) == 3_000
    clock.advance(9_000)
    assert shorter.return_after_ms(received_ms, TIMEOUT_MS) == 0


async def test_time_in_a_long_poll_is_not_time_that_a_message_was_hidden() -> None:
    """It was handed out shortly before the answer, however long the poll waited."""
    made, _, _ = await visibility_of(5)
    assert made.expires_ms(0.0, 20_000.0, TIMEOUT_MS) == 20_000 - MAX_ANSWER_AGE_MS + 13_000
    assert made.expires_ms(0.0, 100.0, TIMEOUT_MS) == 13_000


async def test_the_queue_is_asked_now_and_then() -> None:
    """Not with every receive."""
    made, clock, queue = await visibility_of(60)
    await made.look(TIMEOUT_MS)
    assert queue.asked == 1
    queue.seconds = 90
    clock.advance(301_000)
    await made.look(TIMEOUT_MS)
    assert made.seconds(TIMEOUT_MS) == 90
