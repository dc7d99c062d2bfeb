"""The simulator beside theory: what is run, what theory says of it, and whether both are within 5 %."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.simulate import policies, queueing, theory
from loadtest.simulate.parallel import run_all

ALLOWED = 0.05
LOAD = 0.9
# The design: 100 shards at load 0.9, depths so many service times old; mean response in service times.
PUBLISHED_STALE = {
    ("best_of_two", 0.0): 2.58,
    ("best_of_two", 5.0): 3.93,
    ("best_of_two", 20.0): 6.90,
    ("global_least", 0.0): 1.08,
    ("global_least", 5.0): 12.6,
    ("global_least", 20.0): 56.0,
}
DEEPEST_TAIL = 3
# One age of the least of all shards with another rule for ties: how it herds depends on it.
_STALE = (*PUBLISHED_STALE, ("global_least_first", 5.0))
# Seeds for each of Effort.seeds: its herds are far apart from seed to seed.
_MORE_SEEDS = {("global_least", 5.0): 3, ("global_least", 20.0): 2}
# Who says what is expected.
EXACT, ASYMPTOTIC = "maximum of binomials", "sqrt(2 (m/n) ln n)"
FLUID, MITZENMACHER = "fluid limit", "Mitzenmacher, n = infinity"
TAIL, DESIGN = "load^((d^i - 1)/(d - 1))", "design"
# What has to hold; the others are compared, and what fails is explained.
THEORY = (EXACT, FLUID, MITZENMACHER, TAIL)
_CHOICES = {"random": 1, "best_of_two": 2, "best_of_three": 3}


@dataclass(frozen=True, slots=True)
class Check:
    """One figure. source: who says `expected`; judged: whether it is compared with ALLOWED; of theory it has to hold.

    error: the standard error of `found` over the seeds, as a part of it; None: one seed.
    """

    name: str
    expected: float
    found: float
    source: str
    judged: bool = True
    seeds: int = 1
    error: float | None = None

    @property
    def difference(self) -> float:
        """Found against expected: 0.05 is 5 % more."""
        return self.found / self.expected - 1

    @property
    def holds(self) -> bool:
        """Whether it is within ALLOWED, or not judged."""
        return not self.judged or abs(self.difference) <= ALLOWED


@dataclass(frozen=True, slots=True)
class Effort:
    """How long queues run, in service times (three times it for one choice, which forgets slowly), and seeds."""

    length: float = 2_000.0
    seeds: int = 3
    max_shards: int = 10_000


def run_checks(effort: Effort, processes: int = 0, done: Callable[[], None] = lambda: None) -> list[Check]:
    """All of them; `done` is called runs_of(effort) times."""
    scenarios, queues = _placements(effort), _queues(effort)
    spreads = run_all(policies.simulate, scenarios, processes, done)
    outcomes = run_all(queueing.run, queues, processes, done)
    return [
        *_of_placements(scenarios, [difference for _, difference in spreads]),
        *_of_queues(queues, outcomes),
    ]


def runs_of(effort: Effort) -> int:
    """Runs, for a progress bar."""
    return len(_placements(effort)) + len(_queues(effort))


def _placements(effort: Effort) -> list[policies.Scenario]:
    # Shards, events a shard, seeds. The maximum of best of d is one of two or three whole numbers: only many seeds tell
    # its mean to a few per cent.
    sizes = {
        1: ((100, 100, 100), (100, 1_000, 25), (effort.max_shards, 100, 16)),
        2: ((100, 100, 150), (100, 1_000, 25), (effort.max_shards, 10, 60), (effort.max_shards, 100, 40)),
        3: ((100, 100, 100), (100, 1_000, 20), (effort.max_shards, 10, 10), (effort.max_shards, 100, 2)),
    }
    # One tenant: these policies look at no tenant.
    return [
        policies.Scenario(policy, shards, 1, 0.0, mean, 0, seed)
        for policy, choices in _CHOICES.items()
        for shards, mean, seeds in sizes[choices]
        for seed in range(seeds)
    ]


def _queues(effort: Effort) -> list[queueing.Scenario]:
    found = [
        queueing.Scenario(policy, load=LOAD, length=effort.length * (3 if policy == "random" else 1), seed=seed)
        for policy in _CHOICES
        for seed in range(effort.seeds)
    ]
    found += [
        queueing.Scenario(policy, load=LOAD, report_age=age, length=effort.length, seed=seed)
        for policy, age in _STALE
        if (policy, age) != ("best_of_two", 0.0)
        for seed in range(effort.seeds * _MORE_SEEDS.get((policy, age), 1))
    ]
    return found


def _of_placements(scenarios: Sequence[policies.Scenario], differences: Sequence[float]) -> list[Check]:
    groups: dict[tuple[str, int, int], list[float]] = {}
    for scenario, difference in zip(scenarios, differences, strict=True):
        groups.setdefault((scenario.policy, scenario.shards, scenario.events_a_shard), []).append(difference)
    checks = []
    for (policy, shards, mean), found in groups.items():
        choices = _CHOICES[policy]
        name = f"max - mean: {policy}, {shards:,} shards, {mean:,} events a shard"
        if choices == 1:
            formula = theory.random_max_asymptotic(shards, mean) - mean
            checks.append(_check(name, theory.random_max(shards, mean) - mean, found, EXACT))
            checks.append(_check(name, formula, found, ASYMPTOTIC))
        else:
            checks.append(_check(name, theory.best_of_max(shards, mean, choices) - mean, found, FLUID))
    return checks


def _check(name: str, expected: float, found: Sequence[float], source: str, judged: bool = True) -> Check:
    middle = statistics.fmean(found)
    error = statistics.stdev(found) / math.sqrt(len(found)) / middle if len(found) > 1 else None
    return Check(name, expected, middle, source, judged, len(found), error)


def _of_queues(scenarios: Sequence[queueing.Scenario], outcomes: Sequence[queueing.Outcome]) -> list[Check]:
    groups: dict[tuple[str, float], list[queueing.Outcome]] = {}
    for scenario, outcome in zip(scenarios, outcomes, strict=True):
        groups.setdefault((scenario.policy, scenario.report_age), []).append(outcome)
    checks = []
    for (policy, age), found in groups.items():
        responses = [outcome.response for outcome in found]
        if policy in _CHOICES and not age:
            choices = _CHOICES[policy]
            expected = theory.mean_response(LOAD, choices)
            checks.append(_check(f"mean response: {policy}, load {LOAD}", expected, responses, MITZENMACHER))
            tail = theory.queue_tail(LOAD, choices, DEEPEST_TAIL)
            for depth in range(1, DEEPEST_TAIL + 1):
                parts = [outcome.tail[depth] for outcome in found]
                name = f"P(depth >= {depth}): {policy}, load {LOAD}"
                checks.append(_check(name, tail[depth], parts, TAIL, judged=tail[depth] > 0.1))
        published = PUBLISHED_STALE.get((policy.removesuffix("_first"), age))
        if published is not None:
            name = f"mean response: {policy}, depths {age:g} service times old"
            checks.append(_check(name, published, responses, DESIGN))
    return checks
