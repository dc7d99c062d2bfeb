"""One tenant floods: what the others' events meet, by policy and by the order of dequeue."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.simulate import queueing
from loadtest.simulate.lines import ORDERS
from loadtest.simulate.parallel import run_all
from loadtest.simulate.queueing import p99_text

BACKGROUND_LOAD = 0.5
FLOOD_LOAD = 0.6
TENANTS = 10_000
# Those of the design's figures.
SHARDS = 100
# Name, policy, and the width in shards that every tenant's quota is good for.
POLICIES = (
    ("best of two", "best_of_two", 0.0),
    ("random", "random", 0.0),
    ("hash", "hash", 0.0),
    ("shuffle shard, 2 wide", "shuffle_two", 0.0),
    ("shuffle shard, 8 wide", "shuffle_quota", 8.0),
)
# The design: the part of the others' events that met a depth over 50.
PUBLISHED = {
    "best of two": 0.91,
    "random": 0.77,
    "hash": 0.008,
    "shuffle shard, 2 wide": 0.0004,
    "shuffle shard, 8 wide": 0.006,
}


@dataclass(frozen=True, slots=True)
class Isolation:
    """One policy and order. begun, ended: the counted part, in service times since the flood began.

    deep_part: of the others' events, those that met a depth over 50. response, response_p99: theirs, service times;
    never_ended, response_p99_most: see queueing.Outcome.
    """

    name: str
    order: str
    begun: float
    ended: float
    deep_part: float
    response: float
    response_p99: float
    never_ended: float
    response_p99_most: float | None

    @property
    def p99_text(self) -> str:
        """p99 as one figure, as bounds, or as a lower bound when it lies among events that never ended."""
        return p99_text(self.response_p99, self.response_p99_most)


def make(
    windows: Sequence[tuple[float, float]],
    orders: Sequence[str] = ORDERS,
    seed: int = 0,
    shards: int = SHARDS,
    processes: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[Isolation]:
    """Every policy and order over every window; `done` is called runs_of(windows, orders) times."""
    base = queueing.Scenario(
        "hash", shards, BACKGROUND_LOAD, flood_load=FLOOD_LOAD, tenants=TENANTS, warm_up=0.0, seed=seed
    )
    cases = [(name, policy, wide, order, w) for w in windows for name, policy, wide in POLICIES for order in orders]
    scenarios = [
        dataclasses.replace(base, policy=policy, quota_shards=wide, order=order, warm_up=begun, length=ended - begun)
        for _, policy, wide, order, (begun, ended) in cases
    ]
    outcomes = run_all(queueing.run, scenarios, processes, done)
    return [
        Isolation(
            name,
            order,
            begun,
            ended,
            one.deep_part,
            one.response,
            one.response_p99,
            one.never_ended,
            one.response_p99_most,
        )
        for (name, _, _, order, (begun, ended)), one in zip(cases, outcomes, strict=True)
    ]


def runs_of(windows: Sequence[tuple[float, float]], orders: Sequence[str] = ORDERS) -> int:
    """Runs, for a progress bar."""
    return len(windows) * len(POLICIES) * len(orders)
