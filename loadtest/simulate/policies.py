"""What each shard-choice policy would do with a traffic: the comparison of the plan and of the design's table."""

import itertools
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.arrivals.tenants import SIGMA
from loadtest.simulate import placement, traffic, views
from loadtest.simulate.choices import BLIND, POLICIES
from loadtest.simulate.parallel import run_all
from loadtest.simulate.spread import max_minus_mean, max_over_mean

# Fewer events than this are done before processes are there.
EVENTS_WORTH_PROCESSES = 500_000
MAX_EVENTS = 10_000_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One static run. stale_events_a_shard: how old depths are; kind: in what way, see views; tenant_skew: sigma."""

    policy: str
    shards: int
    tenants: int
    tenant_skew: float
    events_a_shard: int
    stale_events_a_shard: int
    seed: int
    kind: str = "board"


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """One policy at one age of depths, over the seeds.

    max_over_mean, max_minus_mean: medians, of the deepest shard's depth against the mean depth; low, high: the least
    and the largest max / mean.
    """

    policy: str
    stale_events_a_shard: int
    max_over_mean: float
    max_minus_mean: float
    low: float
    high: float


def compare(
    shards: int,
    tenants: int,
    skew_sigma: float = SIGMA,
    events_a_shard: int = 100,
    stale_depths: Sequence[int] = (0,),
    seeds: int = 20,
    *,
    policies: Sequence[str] = tuple(POLICIES),
    kind: str = "board",
    processes: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[PolicyOutcome]:
    """Every policy at every age, in this order; those that look at no depth once, at the first age.

    The seeds 0 to seeds - 1 are the same traffics for all. `done` is called runs_of(...) times. ValueError: not within
    bounds.
    """
    scenarios = [
        Scenario(policy, shards, tenants, skew_sigma, events_a_shard, age, seed, kind)
        for policy, age in _pairs(policies, stale_depths)
        for seed in range(seeds)
    ]
    _check(scenarios, shards, events_a_shard)
    events = shards * events_a_shard * len(scenarios)
    found = run_all(simulate, scenarios, processes if events >= EVENTS_WORTH_PROCESSES else 1, done)
    outcomes = []
    for index, (policy, age) in enumerate(_pairs(policies, stale_depths)):
        spreads = found[index * seeds : (index + 1) * seeds]
        ratios = [ratio for ratio, _ in spreads]
        middle = statistics.median(difference for _, difference in spreads)
        outcomes.append(PolicyOutcome(policy, age, statistics.median(ratios), middle, min(ratios), max(ratios)))
    return outcomes


def runs_of(stale_depths: Sequence[int], seeds: int, policies: Sequence[str] = tuple(POLICIES)) -> int:
    """Runs that a comparison takes, for a progress bar."""
    return len(_pairs(policies, stale_depths)) * seeds


def simulate(scenario: Scenario) -> tuple[float, float]:
    """One run: max / mean and max - mean."""
    events = scenario.shards * scenario.events_a_shard
    load = traffic.make(scenario.seed, events, tenants=scenario.tenants, sigma=scenario.tenant_skew)
    view = views.make(scenario.kind, scenario.shards, scenario.stale_events_a_shard * scenario.shards)
    draw = random.Random(f"draw {scenario.seed}").random
    depths = placement.place(scenario.policy, scenario.shards, load, view, [draw])
    return max_over_mean(depths), max_minus_mean(depths)


def _pairs(policies: Sequence[str], ages: Sequence[int]) -> list[tuple[str, int]]:
    return [(p, age) for p, age in itertools.product(policies, ages) if p not in BLIND or age == ages[0]]


def _check(scenarios: Sequence[Scenario], shards: int, events_a_shard: int) -> None:
    if not scenarios:
        raise ValueError("a comparison needs at least one policy, one age of depths and one seed")
    if not 1 <= shards <= placement.MAX_SHARDS:
        raise ValueError(f"{shards} shards: 1 to {placement.MAX_SHARDS:,}")
    if not 1 <= shards * events_a_shard <= MAX_EVENTS:
        raise ValueError(f"{shards * events_a_shard:,} events a run: 1 to {MAX_EVENTS:,}")
    if min(one.stale_events_a_shard for one in scenarios) < 0:
        raise ValueError("depths are at least 0 events old")
