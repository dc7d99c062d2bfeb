"""How many leases of a function a poller wants at once: a function that is full or paused stays in its shards.

Four bounds, the least counts: a pause (0), the function's reserved concurrency and as much again as is stuck at silent
hosts, what its pace asks for at full hosts (pace.py), and what throttles have taught. The last one follows TCP's rule:
halved by a throttle, at most once a second, and grown again while none comes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from evenflow.control.v1 import resources_pb2

from services.poller.functions import FunctionKey, Plan

# Beyond what runs, a few wait at the hosts, so that a freed place is taken at once.
READY_PART = 2
MIN_READY = 2
ADJUST_MS = 1_000.0
GROWTH = 1.5
MAX_PAUSED = 10_000


@dataclass(slots=True)
class _Learned:
    """The bound that throttles have taught, and when it changed last."""

    bound: int
    changed_ms: float


class Limits:
    """Keeps the bounds of all functions and tells the queue nodes what changed."""

    def __init__(self, set_limit: Callable[[FunctionKey, int | None], None], max_leases: int) -> None:
        self._set_limit = set_limit
        self._max_leases = max_leases
        self._reserved: dict[FunctionKey, int] = {}
        self._learned: dict[FunctionKey, _Learned] = {}
        self._paused: dict[FunctionKey, None] = {}
        self._paced: dict[FunctionKey, int] = {}
        self._stuck: dict[FunctionKey, int] = {}

    @property
    def paused(self) -> list[FunctionKey]:
        """Functions paused at this poller."""
        return list(self._paused)

    def pause(self, key: FunctionKey, paused: bool) -> None:
        """Stop or resume leasing a function. ValueError: too many are paused."""
        if paused:
            if key not in self._paused and len(self._paused) >= MAX_PAUSED:
                raise ValueError(f"{MAX_PAUSED} functions are paused already: resume some first")
            self._paused[key] = None
        else:
            self._paused.pop(key, None)
        self._tell(key)

    def set_pace(self, key: FunctionKey, bound: int | None) -> None:
        """What keeps the function going at full hosts; None lifts it."""
        if bound is None:
            self._paced.pop(key, None)
        else:
            self._paced[key] = bound
        self._tell(key)

    def set_stuck(self, stuck: dict[FunctionKey, int]) -> None:
        """Invocations at hosts that are not heard of, by function: they hold leases and use none of a reservation."""
        if stuck == self._stuck:
            return
        before, self._stuck = self._stuck, stuck
        for key in before.keys() | stuck.keys():
            if key in self._reserved and before.get(key) != stuck.get(key):
                self._tell(key)

    def throttled(self, plan: Plan, now_ms: float) -> None:
        """A host refused a run for concurrency: ask for fewer."""
        learned = self._learned.get(plan.key)
        if learned is None:
            # What ran until now includes the refused one.
            learned = self._learned[plan.key] = _Learned(max(1, plan.running.count), now_ms)
        elif now_ms - learned.changed_ms >= ADJUST_MS:
            learned.bound = max(1, min(learned.bound, plan.running.count + 1) // 2)
            learned.changed_ms = now_ms
        else:
            return
        self._tell(plan.key)

    def follow(self, functions: Iterable[resources_pb2.Function], streams: int) -> None:
        """The configuration changed; `streams`: lease streams (pollers times queue nodes) that share each function."""
        reserved = {
            (f.tenant_id, f.function_name): _ready(f.reserved_concurrency, max(1, streams))
            for f in functions
            # 0 is no bound: those events are to be ended, not kept.
            if f.HasField("reserved_concurrency") and f.reserved_concurrency > 0
        }
        before, self._reserved = self._reserved, reserved
        for key in before.keys() | reserved.keys():
            if before.get(key) != reserved.get(key):
                self._tell(key)

    def tick(self, now_ms: float) -> None:
        """Grow what throttles have taught, and forget it once it bounds nothing."""
        for key, learned in list(self._learned.items()):
            if now_ms - learned.changed_ms < ADJUST_MS:
                continue
            learned.bound = int(learned.bound * GROWTH) + 1
            learned.changed_ms = now_ms
            if learned.bound >= self._max_leases:
                del self._learned[key]
            self._tell(key)

    def bound_of(self, key: FunctionKey) -> int | None:
        """Leases of the function that one stream may hold; None: no bound."""
        if key in self._paused:
            return 0
        learned = self._learned.get(key)
        bounds = [learned.bound] if learned is not None else []
        if key in self._reserved:
            bounds.append(self._reserved[key] + self._stuck.get(key, 0))
        if key in self._paced:
            bounds.append(self._paced[key])
        return min(bounds) if bounds else None

    def _tell(self, key: FunctionKey) -> None:
        self._set_limit(key, self.bound_of(key))


def _ready(reserved: int, streams: int) -> int:
    """One stream's part of the reserved concurrency, rounded up, with a few to wait at the hosts."""
    part = -(-reserved // streams)
    return part + max(MIN_READY, part // READY_PART)
