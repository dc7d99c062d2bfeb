"""How many of each service a rate needs. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loadtest.plan.bottleneck import PROCESS_CORES, Resource
from loadtest.plan.demand import Demand
from loadtest.plan.measured import Fleet

# Queues grow without bound near 1; at 0.7 an M/M/1 response is 3.3 times its floor.
MAX_UTILISATION = 0.70
# More is an answer that nobody can have meant.
MAX_RATE_PER_SECOND = 1e9
# No event passes through it: one serves any rate (it is never on an event's way).
OFF_THE_WAY = ("control",)

ASSUMPTIONS = (
    "an event costs the same CPU at every rate (the demand's line; its held-out error says how well)",
    f"one process uses at most one core, and is planned to {100 * MAX_UTILISATION:.0f} % of it",
    "load spreads evenly over replicas; shards are spread over queue nodes, at least one a node",
    "every further process idles as those measured did",
    "machines have cores as fast as this one, and the network between them costs nothing",
    "events and handlers are like those of this plan",
)


@dataclass(frozen=True, slots=True)
class Needed:
    """For one rate. replicas: processes by service; slots: sandboxes that run at once, on average;
    cores: of all machines together, so that none is used beyond MAX_UTILISATION; the generator is not in it."""

    per_second: float
    replicas: Mapping[str, int]
    slots: float
    cores: int


def needed(per_second: float, demands: Mapping[str, Demand], slots: Resource | None, fleet: Fleet) -> Needed:
    """What this rate needs. ValueError: the rate is not above 0 and at most MAX_RATE_PER_SECOND."""
    check_rate(per_second)
    counts: dict[str, int] = {}
    used_cores = 0.0
    for name, demand in demands.items():
        idle = demand.idle_cores / max(1, fleet.replicas.get(name, 1))
        count = 1 if name in OFF_THE_WAY else _for_cpu(per_second * demand.cpu_seconds_an_event, idle)
        if name == "runtime" and slots is not None and fleet.slots:
            count = max(count, _ceil(per_second * slots.used_an_event / (fleet.slots * MAX_UTILISATION)))
        used_cores += per_second * demand.cpu_seconds_an_event
        if name == "sandboxes":
            used_cores += demand.idle_cores
            continue
        counts[name] = count
        used_cores += count * idle
    taken = per_second * slots.used_an_event if slots is not None else 0.0
    return Needed(per_second, counts, taken, _ceil(used_cores / MAX_UTILISATION))


def check_rate(per_second: float) -> None:
    """ValueError: not above 0 and at most MAX_RATE_PER_SECOND."""
    if not 0 < per_second <= MAX_RATE_PER_SECOND:
        raise ValueError(f"a rate is above 0 and at most {MAX_RATE_PER_SECOND:,.0f} events/s, not {per_second:,}")


def table(
    rates: Sequence[float], demands: Mapping[str, Demand], slots: Resource | None, fleet: Fleet
) -> Sequence[Needed]:
    """One row a rate; empty without demands."""
    return tuple(needed(rate, demands, slots, fleet) for rate in rates) if demands else ()


def _for_cpu(busy_cores: float, idle_cores: float) -> int:
    # A process that idles at its limit leaves nothing to plan with: then a tenth of it is.
    usable = max(MAX_UTILISATION * PROCESS_CORES - idle_cores, 0.1 * PROCESS_CORES)
    return max(1, _ceil(busy_cores / usable))


def _ceil(value: float) -> int:
    # 3.0000000000000004 replicas are 3.
    return max(1, math.ceil(value - 1e-9))
