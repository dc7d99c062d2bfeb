"""Who sends how much and when: rates of the tenants, and seeded Poisson schedules of each phase. Pure."""

import random
from dataclasses import dataclass

BYSTANDER = "bystander"
NOISY = "noisy"


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Capacity is `slots` handlers at once that sleep `handler_ms` each.

    background_load: what all quiet tenants, the bystander among them, need of it; noisy_load: what the noisy one
    sends. bystander_per_second is part of the background: enough that its p99 means something.
    """

    slots: int = 16
    handler_ms: int = 50
    quiet_tenants: int = 14
    background_load: float = 0.7
    noisy_load: float = 2.0
    bystander_per_second: float = 40.0
    warm_up_seconds: float = 5.0
    baseline_seconds: float = 40.0
    flood_seconds: float = 40.0

    @property
    def capacity_per_second(self) -> float:
        """Events that the slots can run."""
        return self.slots * 1_000 / self.handler_ms

    def rates(self, *, flooded: bool) -> dict[str, float]:
        """Events a second by tenant."""
        quiet = self.background_load * self.capacity_per_second - self.bystander_per_second
        found = {f"quiet-{number}": quiet / self.quiet_tenants for number in range(self.quiet_tenants)}
        found[BYSTANDER] = self.bystander_per_second
        if flooded:
            found[NOISY] = self.noisy_load * self.capacity_per_second
        return found

    @property
    def tenants(self) -> list[str]:
        """Every tenant's id; a place in it stands for the tenant in what handlers write."""
        return sorted(self.rates(flooded=True))


@dataclass(frozen=True, slots=True)
class Send:
    """One event: seconds since the phase began, its tenant, and its number within the phase."""

    at_seconds: float
    tenant: str
    number: int


def schedule(rates: dict[str, float], seconds: float, seed: str) -> list[Send]:
    """Independent Poisson arrivals of every tenant, in the order of time; the same seed is the same schedule."""
    arrivals: list[tuple[float, str]] = []
    for tenant, rate in sorted(rates.items()):
        draw = random.Random(f"{seed} {tenant}")
        at = draw.expovariate(rate)
        while at < seconds:
            arrivals.append((at, tenant))
            at += draw.expovariate(rate)
    arrivals.sort()
    return [Send(at, tenant, number) for number, (at, tenant) in enumerate(arrivals)]
