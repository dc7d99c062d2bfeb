"""What a variant should come to: a pure simulation on the policies that the frontend itself uses."""

import random
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.placement.spread import max_minus_mean, max_over_mean
from loadtest.placement.traffic import Traffic, tenant_name
from loadtest.placement.variants import Variant
from services.policy.shard_choice import Depths, make_choice

# Simulated runs of one traffic, each with draws of its own.
REPEATS = 20


@dataclass(frozen=True, slots=True)
class Expected:
    """One traffic's expectation over the draws: means of both figures, and the variance of max - mean."""

    max_minus_mean: float
    max_over_mean: float
    variance: float


def simulate(variant: Variant, traffic: Traffic, draw_seed: int, *, stale_events: int) -> list[int]:
    """Every shard's depth at the end of one run.

    A frontend knows its own sends at once, and everybody's once they are `stale_events` events old.
    """
    draw = random.Random(f"draw {traffic.seed} {draw_seed}").random
    name, count = variant.settings
    choices = [make_choice(name, count) for _ in range(variant.frontends)]
    known = [Depths(variant.shards) for _ in range(variant.frontends)]
    depths, reported = [0] * variant.shards, [0] * variant.shards
    untold: deque[tuple[int, int]] = deque()
    runs: list[tuple[int, int, int]] = [(-1, 0, 0)] * variant.frontends
    for index, tenant in enumerate(traffic.arrivals):
        # Batches go round the frontends, as the real submitters have them.
        frontend = (index // variant.batch) % variant.frontends
        owner, shard, left = runs[frontend]
        if owner != tenant or not left:
            quota = traffic.quotas[tenant] if variant.tells_quotas else 0.0
            chosen = choices[frontend].choose(tenant_name(tenant), quota, known[frontend], draw, 0.0)
            assert chosen is not None
            shard, left = chosen, variant.choice_run
        runs[frontend] = (tenant, shard, left - 1)
        depths[shard] += 1
        known[frontend].sent(shard)
        untold.append((frontend, shard))
        if len(untold) > stale_events:
            sender, told = untold.popleft()
            reported[told] += 1
            known[sender].answered(told, 1)
            for one in known:
                one.report(told, reported[told])
    return depths


def expect(variant: Variant, traffic: Traffic, *, stale_events: int, repeats: int = REPEATS) -> Expected:
    """The expectation for this traffic. A policy without draws is simulated once."""
    runs = 1 if variant.policy == "hash" else repeats
    spreads = [simulate(variant, traffic, number, stale_events=stale_events) for number in range(runs)]
    return Expected(*_moments(spreads))


def _moments(spreads: Sequence[Sequence[int]]) -> tuple[float, float, float]:
    differences = [max_minus_mean(depths) for depths in spreads]
    ratios = [max_over_mean(depths) for depths in spreads]
    return statistics.fmean(differences), statistics.fmean(ratios), statistics.pvariance(differences)
