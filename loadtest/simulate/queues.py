"""Policies beside each other in queues: mean response and the depths that shards have, over seeds."""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.simulate import queueing
from loadtest.simulate.parallel import run_all

TAIL = (1, 2, 5, 10, 50)


@dataclass(frozen=True, slots=True)
class QueueOutcome:
    """One policy at one age of depths, means over the seeds.

    response, response_p99: service times; low, high: the seeds' least and largest mean response; tail: P(depth >= i)
    for each i of TAIL. never_ended: the part of the events; response_p99_most: see queueing.Outcome, None when it is
    None for any seed.
    """

    policy: str
    report_age: float
    response: float
    low: float
    high: float
    response_p99: float
    tail: Sequence[float]
    never_ended: float
    response_p99_most: float | None


def compare(
    base: queueing.Scenario,
    policies: Sequence[str],
    ages: Sequence[float],
    seeds: int,
    *,
    processes: int = 0,
    done: Callable[[], None] = lambda: None,
) -> list[QueueOutcome]:
    """Every policy at every age, in this order, else as `base`; `done` is called once a run.

    ValueError: no policy, age or seed, or not within the bounds of a Scenario.
    """
    if not (policies and ages and seeds > 0):
        raise ValueError("a comparison needs at least one policy, one age of depths and one seed")
    pairs = [(policy, age) for policy in policies for age in ages]
    scenarios = [
        dataclasses.replace(base, policy=policy, report_age=age, seed=seed)
        for policy, age in pairs
        for seed in range(seeds)
    ]
    found = run_all(queueing.run, scenarios, processes, done)
    outcomes = []
    for index, (policy, age) in enumerate(pairs):
        mine = found[index * seeds : (index + 1) * seeds]
        responses = [one.response for one in mine]
        most = [one.response_p99_most for one in mine if one.response_p99_most is not None]
        outcomes.append(
            QueueOutcome(
                policy,
                age,
                statistics.fmean(responses),
                min(responses),
                max(responses),
                statistics.fmean(one.response_p99 for one in mine),
                [statistics.fmean(one.tail[depth] for one in mine) for depth in TAIL],
                statistics.fmean(one.never_ended for one in mine),
                statistics.fmean(most) if len(most) == seeds else None,
            )
        )
    return outcomes
