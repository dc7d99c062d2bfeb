"""Whether what the queue reported is what its policy should give. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.placement.expected import Expected
from loadtest.placement.spread import max_minus_mean
from loadtest.placement.variants import IN_FLIGHT_A_SHARD, Variant

# The comparison is of max - mean, over the same traffic, and so a mean difference over the seeds.
MIN_SEEDS = 20
STANDARD_ERRORS = 4.0
# A choice more or less; on top, what is in flight to a shard, which counts twice when a report overtakes its answer.
ALLOWED_CHOICES = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`difference`: events by which the mean of max - mean lies outside the expected range; 0: inside."""

    difference: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the policy that was said is the one that was seen."""
        return self.difference <= self.tolerance


def judge(
    variant: Variant, depths: Sequence[Sequence[int]], fresh: Sequence[Expected], stale: Sequence[Expected]
) -> Verdict:
    """Compare the runs of a variant, one a seed, with its expectations for the same seeds.

    The range goes from depths that are known at once to depths as old as everything that is in flight. Its width
    comes from the simulation alone: wild measurements do not widen what they are compared with. ValueError: no runs.
    """
    if not depths or not len(depths) == len(fresh) == len(stale):
        raise ValueError("as many expectations as runs are needed, and at least one")
    measured = statistics.fmean(max_minus_mean(run) for run in depths)
    bounds = [statistics.fmean(one.max_minus_mean for one in side) for side in (fresh, stale)]
    outside = max(min(bounds) - measured, measured - max(bounds), 0.0)
    variance = max(statistics.fmean(one.variance for one in side) for side in (fresh, stale))
    # Without draws the depths are known exactly.
    allowance = ALLOWED_CHOICES * min(variant.choice_run, variant.batch) + IN_FLIGHT_A_SHARD
    if variant.policy == "hash":
        allowance = 0.0
    return Verdict(outside, STANDARD_ERRORS * math.sqrt(variance / len(depths)) + allowance)
