"""What the order of shares does to a bystander, on a host of 8 slots whose handlers take 50 ms: a pure simulation."""

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable

import pytest

from services.runtime.pool import InLine, next_in_line

SLOTS, RUN_MS, SECONDS = 8, 50.0, 300.0
CAPACITY = SLOTS * 1_000 / RUN_MS
# What the ways through the fleet take, beside waiting.
OVERHEAD_MS = 5.0
# What the noisy function may have at the host, by its pace: more than it ends in a second.
NOISY_PRESENT = 64
Order = Callable[[list[InLine], int, float], InLine]


def bystander_p99_ms(order: Order, *, flooded: bool) -> float:
    """The bystander's p99 dwell at 70 % background, with or without a backlog of the noisy function."""
    draw = random.Random(7)
    rates = {f"quiet-{n}": (0.7 * CAPACITY - 20) / 14 for n in range(14)} | {"bystander": 20.0}
    agenda: list[tuple[float, int, str]] = []
    for owner, rate in rates.items():
        at = draw.expovariate(rate)
        while at < SECONDS:
            agenda.append((at * 1_000, 1, owner))
            at += draw.expovariate(rate)
    heapq.heapify(agenda)
    waiting: dict[str, deque[float]] = {}
    running: Counter[str] = Counter()
    begun: defaultdict[str, float] = defaultdict(float)
    dwell: list[float] = []
    while agenda:
        now_ms, is_arrival, owner = heapq.heappop(agenda)
        if is_arrival:
            waiting.setdefault(owner, deque()).append(now_ms)
        else:
            running[owner] -= 1
        while flooded and len(waiting.get("noisy", ())) + running["noisy"] < NOISY_PRESENT:
            waiting.setdefault("noisy", deque()).append(now_ms)
        while waiting and running.total() < SLOTS:
            line = [
                InLine(one, len(runs) + running[one], runs[0], max(runs[0], begun[one]))
                for one, runs in waiting.items()
            ]
            chosen = str(order(line, running.total() + sum(map(len, waiting.values())), now_ms).owner)
            since_ms = waiting[chosen].popleft()
            if chosen == "bystander":
                dwell.append(now_ms - since_ms + OVERHEAD_MS)
            # As in the host: who was served and has more goes to the end of the line.
            left = waiting.pop(chosen)
            if left:
                waiting[chosen] = left
            running[chosen] += 1
            begun[chosen] = now_ms
            if now_ms < SECONDS * 1_000:
                heapq.heappush(agenda, (now_ms + RUN_MS, 0, chosen))
    return sorted(dwell)[int(0.99 * len(dwell))]


def ratio(order: Order) -> float:
    """Flooded over baseline."""
    return bystander_p99_ms(order, flooded=True) / bystander_p99_ms(order, flooded=False)


def test_a_flood_at_most_doubles_a_bystander_s_p99() -> None:
    """The goal of the whole fleet, of the host's part alone."""
    assert ratio(next_in_line) <= 2.0


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(lambda line, _present, _now: line[0], id="turns"),
        pytest.param(lambda line, _present, _now: min(line, key=lambda one: one.oldest_ms), id="first come"),
    ],
)
def test_turns_or_first_come_first_served_would_not_do(order: Order) -> None:
    """So the test above can fail."""
    assert ratio(order) > 2.0
