"""Everything that a plan concludes from what was measured. Pure: the same data, the same findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loadtest.plan import best_rate, bottleneck, confirmation, cost, drain, generator, headroom, little, replicas, usl
from loadtest.plan.bottleneck import Resource
from loadtest.plan.cost import Cost, Prices
from loadtest.plan.demand import Demand, demands
from loadtest.plan.drain import Capacity, DrainCheck, DrainRow
from loadtest.plan.measured import Fleet, Measured
from loadtest.plan.replicas import Needed

# Rates of the table of replicas, events/s.
TARGETS_PER_SECOND = (100.0, 1_000.0, 10_000.0, 100_000.0)
MAX_TARGETS = 50


class PolicyOutcome(Protocol):
    """What loadtest.simulate.policies.compare tells of one placement policy at one age of the depths."""

    @property
    def policy(self) -> str:
        """Its name."""

    @property
    def stale_events_a_shard(self) -> float:
        """How old the depths are that it chooses by, in events of one shard."""

    @property
    def max_over_mean(self) -> float:
        """Of the shards' depths, the median over seeds; 1 is perfect."""

    @property
    def max_minus_mean(self) -> float:
        """The same in events."""

    @property
    def low(self) -> float:
        """Lowest max_over_mean of a seed."""

    @property
    def high(self) -> float:
        """Highest max_over_mean of a seed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A PolicyOutcome as the plan keeps it."""

    policy: str
    stale_events_a_shard: float
    max_over_mean: float
    max_minus_mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Findings:
    """The conclusions, each in its own file. demands: by service; needed: replicas for the target rates."""

    best: best_rate.BestRate
    first_failure: best_rate.FirstFailure | None
    knee: best_rate.Knee | None
    usl: usl.Usl | None
    demands: Mapping[str, Demand]
    bottleneck: bottleneck.Bottleneck
    little: Sequence[little.LittleCheck]
    headroom: Sequence[headroom.Headroom]
    fleet: Fleet
    needed: Sequence[Needed]
    confirmations: Sequence[confirmation.Confirmation]
    capacity: Capacity | None
    drain: DrainCheck | None
    drains: Sequence[DrainRow]
    cost: Cost | None
    policies: Sequence[Policy]
    generator: generator.Generator


def conclude(
    measured: Measured,
    *,
    prices: Prices | None = None,
    targets_per_second: Sequence[float] = TARGETS_PER_SECOND,
    policies: Sequence[PolicyOutcome] = (),
) -> Findings:
    """The findings. What the data do not show is None or empty, never guessed.

    policies: what a simulation told of them, shown as it is. ValueError: too many target rates, or one out of bounds.
    """
    check_targets(targets_per_second)
    best = best_rate.best_rate(measured)
    failure = best_rate.first_failure(measured, best)
    costs = demands(measured)
    narrow = bottleneck.bottleneck(measured, best, failure)
    slots = _slots(narrow.resources)
    capacity = drain.capacity(measured, best)
    confirmed = {run.per_second for run in measured.runs if run.purpose == "confirm"} if costs else set()
    asked = {rate: replicas.needed(rate, costs, slots, measured.fleet) for rate in confirmed}
    return Findings(
        best=best,
        first_failure=failure,
        knee=best_rate.knee(measured),
        usl=usl.fit(measured),
        demands=costs,
        bottleneck=narrow,
        little=little.checks(measured),
        headroom=headroom.headroom(best, narrow.resources, measured.fleet),
        fleet=measured.fleet,
        needed=replicas.table(targets_per_second, costs, slots, measured.fleet),
        confirmations=confirmation.confirmations(measured, costs, asked),
        capacity=capacity,
        drain=drain.check(measured, capacity),
        drains=drain.table(best.per_second, capacity),
        cost=cost.cost(measured, best, costs, slots.used_an_event if slots else None, prices or Prices()),
        policies=tuple(
            Policy(one.policy, one.stale_events_a_shard, one.max_over_mean, one.max_minus_mean, one.low, one.high)
            for one in policies
        ),
        generator=generator.generator(measured, best),
    )


def check_targets(targets_per_second: Sequence[float]) -> None:
    """ValueError: too many target rates, or one out of bounds."""
    if len(targets_per_second) > MAX_TARGETS:
        raise ValueError(f"at most {MAX_TARGETS} target rates, not {len(targets_per_second)}")
    for one in targets_per_second:
        replicas.check_rate(one)


def needed(findings: Findings, per_second: float) -> Needed | None:
    """What this rate needs, by these findings; None: no demand is known. ValueError: the rate is out of bounds."""
    if not findings.demands:
        return None
    return replicas.needed(per_second, findings.demands, _slots(findings.bottleneck.resources), findings.fleet)


def _slots(resources: Sequence[Resource]) -> Resource | None:
    return next((one for one in resources if one.kind == "slots"), None)
