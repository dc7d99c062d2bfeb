"""What the simulator says of a variant's traffic."""

import random
from collections.abc import Sequence

from loadtest.placement.variants import Variant, draw_of
from loadtest.simulate.placement import place
from loadtest.simulate.spread import max_minus_mean
from loadtest.simulate.traffic import Traffic
from loadtest.simulate.views import OwnSends
from services.policy.shard_choice import Draw

# Runs of one traffic with draws that the fleet does not have.
REPEATS = 20


def same_draws(variant: Variant, traffic: Traffic) -> list[int]:
    """Every shard's depth when the simulated frontends draw the numbers that the real ones draw."""
    return _place(variant, traffic, [draw_of(traffic.seed, number) for number in range(variant.frontends)])


def other_draws(variant: Variant, traffic: Traffic, repeats: int = REPEATS) -> list[float]:
    """max - mean of so many runs with draws of their own; of one when the policy draws nothing."""
    runs = 1 if variant.policy == "hash" else repeats
    found = []
    for repeat in range(runs):
        draws: Sequence[Draw] = [
            random.Random(f"other {repeat} {number} {traffic.seed}").random for number in range(variant.frontends)
        ]
        found.append(max_minus_mean(_place(variant, traffic, draws)))
    return found


def _place(variant: Variant, traffic: Traffic, draws: Sequence[Draw]) -> list[int]:
    views = OwnSends(variant.shards, variant.frontends, variant.stale_events)
    return place(
        variant.policy, variant.shards, traffic, views, draws, batch=variant.batch, choice_run=variant.choice_run
    )
