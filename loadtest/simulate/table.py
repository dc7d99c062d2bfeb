"""The design's table of placement, simulated beside what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.arrivals import tenants as skews
from loadtest.simulate import policies
from loadtest.simulate.choices import BLIND, POLICIES

AGES = (0, 1, 10)
EVENTS_A_SHARD = 100
# max / mean: by shards and policy, for each age that is published.
PUBLISHED: dict[int, dict[str, Sequence[float]]] = {
    100: {
        "hash": (17.4,),
        "random": (1.34,),
        "best_of_two": (1.02,),
        "best_of_four": (1.01,),
        "shuffle_two": (8.5,),
        "shuffle_quota": (1.07,),
    },
    10_000: {
        "hash": (600.0,),
        "random": (1.37,),
        "best_of_two": (1.02, 1.05, 1.24),
        "best_of_four": (1.01, 1.07, 1.41),
        "shuffle_two": (302.0, 304.0, 333.0),
        "shuffle_quota": (1.09, 1.13, 1.38),
    },
}
# Seeds of the weights alone, which are cheap: the hottest tenant decides what hash comes to.
LUCK_SEEDS = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One half of the table. delayed_seeds: of the same with depths that are exactly so old; see views."""

    shards: int
    tenants: int
    seeds: int
    delayed_seeds: int


PARTS = (Part(100, 10_000, 100, 20), Part(10_000, 1_000_000, 5, 2))


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of the table, max / mean; published: None where the design has none.

    found: depths told anew every `age` events a shard; delayed: depths exactly so old, None when age is 0.
    """

    shards: int
    tenants: int
    policy: str
    age: int
    published: float | None
    found: float
    low: float
    high: float
    max_minus_mean: float
    delayed: float | None

    @property
    def ratio(self) -> float | None:
        """Found against published."""
        return None if self.published is None else self.found / self.published


@dataclass(frozen=True, slots=True)
class Luck:
    """The hottest tenant's part of the traffic over LUCK_SEEDS seeds: the median and the middle half's ends."""

    tenants: int
    quarter: float
    median: float
    three_quarters: float


def make(parts: Sequence[Part] = PARTS, processes: int = 0, done: Callable[[], None] = lambda: None) -> list[Cell]:
    """Both halves; `done` is called runs_of(parts) times."""
    cells = []
    for part in parts:
        shared = (part.shards, part.tenants, skews.SIGMA, EVENTS_A_SHARD)
        found = policies.compare(*shared, AGES, part.seeds, processes=processes, done=done)
        late = policies.compare(
            *shared, AGES[1:], part.delayed_seeds, policies=_SEEING, kind="delayed", processes=processes, done=done
        )
        delayed = {(one.policy, one.stale_events_a_shard): one.max_over_mean for one in late}
        for one in found:
            age = one.stale_events_a_shard
            cells.append(
                Cell(
                    part.shards,
                    part.tenants,
                    one.policy,
                    age,
                    _published(part.shards, one.policy, age),
                    one.max_over_mean,
                    one.low,
                    one.high,
                    one.max_minus_mean,
                    delayed.get((one.policy, age)),
                )
            )
    return cells


def runs_of(parts: Sequence[Part] = PARTS) -> int:
    """Runs, for a progress bar."""
    return sum(
        policies.runs_of(AGES, part.seeds) + policies.runs_of(AGES[1:], part.delayed_seeds, _SEEING) for part in parts
    )


def luck(tenants: int) -> Luck:
    """How far the hottest tenant's part is chance."""
    hottest = [skews.weights("lognormal", tenants, f"luck {seed}").max() for seed in range(LUCK_SEEDS)]
    quarter, median, three_quarters = np.quantile(hottest, (0.25, 0.5, 0.75))
    return Luck(tenants, float(quarter), float(median), float(three_quarters))


_SEEING = tuple(policy for policy in POLICIES if policy not in BLIND)


def _published(shards: int, policy: str, age: int) -> float | None:
    values = PUBLISHED.get(shards, {}).get(policy, ())
    place = AGES.index(age)
    return values[place] if place < len(values) else None
