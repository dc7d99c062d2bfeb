"""The heart of an open loop: each event at its time, whatever became of those before."""

import asyncio
import time
from collections.abc import Callable, Sequence

# Then answers are read, however many sends are due.
SENDS_AT_ONCE = 100


async def send_on_time(due_ns: Sequence[int], begin_ns: int, send: Callable[[int], None]) -> None:
    """Call send(place) for each place in the order of time, never before its time.

    due_ns: ascending, since begin_ns, a moment of the monotonic clock. The loop's timers have steps of 1 ms, which
    is how late a send is at rest.
    """
    place, planned = 0, len(due_ns)
    while place < planned:
        elapsed_ns = time.monotonic_ns() - begin_ns
        until = min(place + SENDS_AT_ONCE, planned)
        while place < until and due_ns[place] <= elapsed_ns:
            send(place)
            place += 1
        if place == planned:
            return
        wait_ns = due_ns[place] - (time.monotonic_ns() - begin_ns)
        await asyncio.sleep(max(0, wait_ns) / 1e9)
