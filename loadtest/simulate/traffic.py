"""Skewed tenants: lognormal weights, and whose event comes next. Seeded; the same seed is the same traffic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.arrivals import tenants as skews

TENANTS = 10_000
WHOLE_MILLIONTHS = 1_000_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """One seed's traffic. parts: each tenant's of it, 0 to 1, sum 1; arrivals: a tenant's index for every event."""

    seed: int
    parts: skews.Weights
    arrivals: Sequence[int]

    @property
    def largest_part(self) -> float:
        """The hottest tenant's part of the traffic."""
        return float(self.parts.max())

    def quota_millionths(self, tenant: int) -> int:
        """The tenant's quota as the fleet keeps it: its part of the traffic in whole millionths."""
        return round(float(self.parts[tenant]) * WHOLE_MILLIONTHS)

    def quotas(self) -> dict[int, float]:
        """The quota, 0 to 1, of every tenant that sends something."""
        return {tenant: self.quota_millionths(tenant) / WHOLE_MILLIONTHS for tenant in set(self.arrivals)}


def tenant_name(index: int) -> str:
    """The tenant's id."""
    return f"tenant-{index}"


def make(seed: int, events: int, *, tenants: int = TENANTS, sigma: float = skews.SIGMA, batch: int = 1) -> Traffic:
    """So many events; each `batch` of them in a row is of one tenant, drawn by lognormal weight; sigma 0: all alike.

    ValueError: tenants outside of what loadtest.arrivals.tenants allows.
    """
    parts = skews.weights("lognormal", tenants, str(seed), sigma)
    owners = skews.draw(parts, -(-events // batch), str(seed))
    return Traffic(seed, parts, np.repeat(owners, batch)[:events].tolist())
