"""What the simulator says of a variant's traffic."""

import dataclasses
import random
from collections.abc import Sequence

from loadtest.placement.variants import Variant, draw_of
from loadtest.simulate.choices import POLICIES
from loadtest.simulate.placement import place
from loadtest.simulate.spread import max_minus_mean
from loadtest.simulate.traffic import Traffic
from loadtest.simulate.views import OwnSends
from services.policy.shard_choice import Draw

# Runs of one traffic with draws that the fleet does not have.
REPEATS = 20


def stale_events(variant: Variant, unknown_events: float) -> int:
    """How old, in events of all frontends, depths are that lack so many events of the others on average.

    Of the last n events, each frontend's own part is known to it.
    """
    if variant.frontends == 1:
        return 0
    return max(0, round(unknown_events * variant.frontends / (variant.frontends - 1)))


def same_draws(variant: Variant, traffic: Traffic, stale: int = 0) -> list[int]:
    """Every shard's depth when the simulated frontends draw the numbers that the real ones draw.

    stale: see stale_events; of one frontend 0.
    """
    return _place(variant, traffic, [draw_of(traffic.seed, number) for number in range(variant.frontends)], stale)


def other_draws(variant: Variant, traffic: Traffic, stale: int = 0, repeats: int = REPEATS) -> list[float]:
    """max - mean of so many runs with draws of their own; of one when the policy draws nothing."""
    runs = 1 if variant.policy == "hash" else repeats
    found = []
    for repeat in range(runs):
        draws: Sequence[Draw] = [
            random.Random(f"other {repeat} {number} {traffic.seed}").random for number in range(variant.frontends)
        ]
        found.append(max_minus_mean(_place(variant, traffic, draws, stale)))
    return found


def swapped(variant: Variant, traffic: Traffic, stale: int = 0) -> dict[str, float]:
    """max - mean of one run under each other policy, all else as in the variant."""
    return {
        policy: other_draws(dataclasses.replace(variant, policy=policy), traffic, stale, 1)[0]
        for policy in POLICIES
        if policy != variant.policy
    }


def _place(variant: Variant, traffic: Traffic, draws: Sequence[Draw], stale: int) -> list[int]:
    views = OwnSends(variant.shards, variant.frontends, stale)
    return place(
        variant.policy, variant.shards, traffic, views, draws, batch=variant.batch, choice_run=variant.choice_run
    )
