"""How long an idle system takes from submit to the handler's first line."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from loadtest.bench.tick_reader import TickReader

# Between two submissions, so that each finds the system idle; random, so that no polling interval is met in step.
PAUSE_LOW_SECONDS = 0.015
PAUSE_HIGH_SECONDS = 0.045
_POLL_SECONDS = 0.002


async def measure(
    submit: Callable[[], Awaitable[None]], ticks: TickReader, samples: int, randomness: random.Random
) -> list[float]:
    """Milliseconds from before the submit call to the start that the handler notes itself, by one machine's clock."""
    found = []
    runs = ticks.runs()
    for _ in range(samples):
        await asyncio.sleep(randomness.uniform(PAUSE_LOW_SECONDS, PAUSE_HIGH_SECONDS))
        began_ns = time.time_ns()
        await submit()
        runs += 1
        await ticks.wait_for(runs, _POLL_SECONDS)
        found.append((ticks.latest_start_ns() - began_ns) / 1e6)
    return found
