"""A run's traffic as it is told, made into its schedule."""

from pathlib import Path

from loadtest.arrivals import arrivals, azure, shapes, tenants
from loadtest.arrivals.arrivals import Arrivals
from loadtest.open_loop.spec import Traffic


def tenants_of(traffic: Traffic) -> int:
    """How many tenants send: one more than told, the last, when one of them is noisy."""
    return traffic.tenants + (1 if traffic.noisy_part > 0 else 0)


def schedule(traffic: Traffic, warm_up_seconds: float = 0.0) -> Arrivals:
    """The schedule; the same traffic, the same schedule. warm_up_seconds: see shapes.times.

    ValueError, TooMany, azure.BadTrace: it cannot be made."""
    if traffic.replay:
        return azure.replay(
            Path(traffic.replay), traffic.seconds, traffic.shape.per_second, traffic.seed, traffic.tenants
        )
    at_seconds = shapes.times(traffic.shape, traffic.seconds, traffic.seed, warm_up_seconds)
    parts = tenants.weights(traffic.skew, traffic.tenants, traffic.seed)
    if traffic.noisy_part > 0:
        parts = tenants.with_noisy(parts, traffic.noisy_part)
    senders = tenants.draw(parts, len(at_seconds), traffic.seed) if len(parts) > 1 else None
    return arrivals.make(traffic.seconds, at_seconds, senders)
