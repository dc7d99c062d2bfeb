"""Skewed tenants: lognormal weights, and whose event comes next. Seeded; the same seed is the same traffic."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

# The skew of capacity.md's table: a few tenants have nearly all of the traffic, as in the Azure 2019 trace.
SIGMA = 3.55
TENANTS = 10_000
WHOLE_MILLIONTHS = 1_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """One seed's traffic. quotas: each tenant's part of it, 0 to 1; arrivals: a tenant's index for every event."""

    seed: int
    quotas: Sequence[float]
    arrivals: Sequence[int]

    @property
    def largest_quota(self) -> float:
        """The hottest tenant's part of the traffic."""
        return max(self.quotas)


def tenant_name(index: int) -> str:
    """The tenant's id."""
    return f"tenant-{index}"


def make(seed: int, events: int, batch: int = 1, tenants: int = TENANTS) -> Traffic:
    """So many events; each `batch` of them in a row is of one tenant, drawn by weight."""
    draw = random.Random(f"traffic {seed}")
    weights = [draw.lognormvariate(0.0, SIGMA) for _ in range(tenants)]
    total = sum(weights)
    owners = draw.choices(range(tenants), weights, k=-(-events // batch))
    arrivals = list(itertools.chain.from_iterable(itertools.repeat(owner, batch) for owner in owners))[:events]
    return Traffic(seed, [weight / total for weight in weights], arrivals)
