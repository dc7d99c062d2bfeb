"""Dead letters go back into their lanes at a bounded, even rate.

What failed at once, because something that it needs was down, must not fall upon that at once again.
"""

import asyncio
from collections.abc import Awaitable, Callable

from services.queue.dead_letters import Moved
from services.shared.clock import Clock

# So often at most, and at least one event each time: the rate is even, and a turn of the shard is short.
STEPS_PER_SECOND = 20
# A call ends with what it has moved by then: its caller, who may have a deadline, learns of it and calls again.
MAX_CALL_MS = 5_000


class Pace:
    """When the next events may go. Pure: the caller brings the time and does the waiting."""

    def __init__(self) -> None:
        self._free_at_ms = 0.0

    def wait_ms(self, now_ms: float) -> float:
        """How long to wait before the next step."""
        return max(0.0, self._free_at_ms - now_ms)

    def note(self, now_ms: float, events: int, per_second: int) -> None:
        """So many went at this moment."""
        self._free_at_ms = max(now_ms, self._free_at_ms) + events * 1_000 / per_second


class Redriver:
    """The pace of each shard of a node; calls for one shard wait for each other."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        """`per_second`: the bound of each shard, whoever asks."""
        self._clock = clock
        self._per_second = per_second
        self._shards: dict[int, tuple[asyncio.Lock, Pace]] = {}

    async def run(
        self,
        shard_id: int,
        max_events: int,
        asked_per_second: int,
        move: Callable[[int, int], Awaitable[Moved]],
    ) -> int:
        """Move up to `max_events` and tell how many went; `move` gets (behind which id, how many).

        Ends when the last events have taken their time, so that calls after each other keep the rate, too; after
        MAX_CALL_MS with what has gone by then.
        """
        rate = min(self._per_second, asked_per_second or self._per_second)
        step = max(1, rate // STEPS_PER_SECOND)
        lock, pace = self._shards.setdefault(shard_id, (asyncio.Lock(), Pace()))
        own = Pace()
        began_ms = self._clock.monotonic_ms()
        total = after_id = 0
        while total < max_events:
            await self._wait(own)
            async with lock:
                await self._wait(pace)
                moved = await move(after_id, min(step, max_events - total))
                now_ms = self._clock.monotonic_ms()
                own.note(now_ms, moved, rate)
                pace.note(now_ms, moved, self._per_second)
            total, after_id = total + moved, moved.next_id
            if not after_id or (total and now_ms - began_ms >= MAX_CALL_MS):
                break
        await self._wait(own)
        return total

    async def _wait(self, pace: Pace) -> None:
        # Between turns, too, when the rate is high: others' calls go in between.
        await asyncio.sleep(pace.wait_ms(self._clock.monotonic_ms()) / 1_000)
