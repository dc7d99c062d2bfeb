"""What is left after losing one replica. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.plan.best_rate import BestRate
from loadtest.plan.bottleneck import Resource
from loadtest.plan.measured import Fleet
from loadtest.plan.replicas import OFF_THE_WAY


@dataclass(frozen=True, slots=True)
class Headroom:
    """lost: "one poller", "one queue", ...; of: how many there were. per_second: the rate that still holds the
    objective, at most the best rate; kept: its part of the best rate; waiting: part of the stored events that wait
    until it is back; note: what that means."""

    lost: str
    of: int
    per_second: float
    kept: float
    waiting: float
    note: str


def headroom(best: BestRate, resources: Sequence[Resource], fleet: Fleet) -> Sequence[Headroom]:
    """After each loss. The tightest resource is taken to hold the objective up to the use it had at the best rate, and
    every other one up to the same use."""
    limits = [one.saturates_per_second for one in resources if one.saturates_per_second]
    if not best.per_second or not limits:
        return ()
    bearable = min(1.0, best.per_second / min(limits))
    # A shard is never lost alone: it goes with its node, or with the node's disk.
    return tuple(_after_losing(service, best, resources, fleet, bearable) for service in _services(fleet))


def _services(fleet: Fleet) -> list[str]:
    return [name for name, count in fleet.replicas.items() if count and name != "sandboxes"]


def _after_losing(
    service: str, best: BestRate, resources: Sequence[Resource], fleet: Fleet, bearable: float
) -> Headroom:
    count = fleet.replicas[service]
    if service in OFF_THE_WAY:
        return Headroom(f"one {service}", count, best.per_second, 1.0, 0.0, "what is deployed goes on running")
    left = (count - 1) / count
    # Only what belongs to the service shrinks with it: the machine keeps its cores.
    rates = [
        bearable * one.saturates_per_second * left
        for one in resources
        if one.service == service and one.saturates_per_second
    ]
    rate = min([best.per_second, *rates]) if count > 1 else 0.0
    waiting = 1 / count if service == "queue" else 0.0
    return Headroom(f"one {service}", count, rate, rate / best.per_second, waiting, _note(service, count))


def _note(service: str, count: int) -> str:
    if count == 1:
        return {
            "frontend": "nothing is accepted until it is back",
            "queue": "nothing is accepted and all stored events wait until it is back",
        }.get(service, "events are accepted and wait until it is back")
    if service == "queue":
        return "its shards' events wait until it is back; new events go to the others"
    return "the others take its load"
