"""How many leases a function may have at hosts that are full: what it runs, and what it starts in the next moment.

Without this a function with a backlog takes the whole window of a poller, and an event of another one waits for a
lease behind hundreds of them, although each shard hands out in fair order. By Little's law a function that ends
`rate` runs a second, each of `run_ms`, has rate * run_ms of them running. A little more than that keeps it going; the
rest of its backlog stays in the shards, where order is fair. Only functions that crowd the hosts are held to that.
Pure.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.poller.functions import FunctionKey, InFlight

# What a function may have ahead of its runs: the ways to a host and back, and the settlement, are in it.
AHEAD_MS = 400.0
# No function is held to fewer, nor one that has no more than this part of all that is at the hosts.
MIN_LEASES = 16
CROWD_PART = 8
# Hosts are full when as many wait as this part of those that run.
FULL_PART = 8
GROWTH = 2
# How long a rate is remembered: at least this, and some runs of the function.
MEMORY_MS = 500.0
MEMORY_RUNS = 2.0
SMOOTHING = 0.1
# A bound is told anew when it differs by this part: each telling is a message to every queue node.
TELL_PART = 4


@dataclass(slots=True)
class _Flow:
    """One function's runs through this poller."""

    running: InFlight
    since_ms: float
    ended: int = 0
    run_ms: float = 0.0
    per_ms: float = 0.0
    bound: int | None = None


class Pace:
    """Bounds the leases of functions that have more at the hosts than they can start soon."""

    def __init__(self, set_bound: Callable[[FunctionKey, int | None], None], max_leases: int) -> None:
        """`set_bound` is told what changed; a bound that grew over `max_leases` is lifted with None."""
        self._set_bound = set_bound
        self._max_leases = max_leases
        self._flows: dict[FunctionKey, _Flow] = {}
        self._ticked_ms: float | None = None

    def ended(self, key: FunctionKey, running: InFlight, run_ms: float, now_ms: float) -> None:
        """A run of the function came to its end; `running`: how many of its invocations are at hosts."""
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = _Flow(running, now_ms, run_ms=run_ms)
        flow.ended += 1
        flow.run_ms += SMOOTHING * (run_ms - flow.run_ms)

    def tick(self, now_ms: float, busy: int, waiting: int) -> None:
        """Bound and release; several times a second. `busy`, `waiting`: invocations at the hosts, as they last told."""
        elapsed_ms = now_ms - self._ticked_ms if self._ticked_ms is not None else 0.0
        self._ticked_ms = now_ms
        is_full = waiting * FULL_PART > busy
        in_flight = sum(flow.running.count for flow in self._flows.values())
        for key, flow in list(self._flows.items()):
            if elapsed_ms > 0:
                _measure(flow, now_ms, elapsed_ms)
            crowds = flow.running.count * CROWD_PART > in_flight
            if is_full and crowds and flow.running.count >= MIN_LEASES:
                self._tell(key, flow, max(MIN_LEASES, math.ceil(flow.per_ms * (flow.run_ms + AHEAD_MS))))
            elif flow.bound is not None and not (is_full and crowds):
                # The hosts take more, or the others have: this one may have what keeps it going.
                self._tell(key, flow, flow.bound * GROWTH)
            if flow.bound is None and not flow.running.count and flow.per_ms < 1 / (MEMORY_MS * MEMORY_MS):
                del self._flows[key]

    def _tell(self, key: FunctionKey, flow: _Flow, bound: int) -> None:
        wanted = bound if bound < self._max_leases else None
        before = flow.bound
        if wanted == before:
            return
        if wanted is not None and before is not None and abs(wanted - before) * TELL_PART < before:
            return
        flow.bound = wanted
        self._set_bound(key, wanted)


def _measure(flow: _Flow, now_ms: float, elapsed_ms: float) -> None:
    """Runs ended a millisecond, over the flow's memory, or over its life while it is young."""
    memory_ms = max(MEMORY_MS, MEMORY_RUNS * flow.run_ms)
    age_ms = max(elapsed_ms, now_ms - flow.since_ms + flow.run_ms)
    weight = min(1.0, elapsed_ms / min(memory_ms, age_ms))
    flow.per_ms += weight * (flow.ended / elapsed_ms - flow.per_ms)
    flow.ended = 0
