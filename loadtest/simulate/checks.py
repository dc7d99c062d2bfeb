"""The simulator beside theory: what is run, what theory says of it, and whether both are within 5 %."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.simulate import policies, queueing, theory
from loadtest.simulate.parallel import run_all

ALLOWED = 0.05
LOAD = 0.9
# capacity.md: 100 shards at load 0.9, depths so many service times old; mean response in service times.
PUBLISHED_STALE = {
    ("best_of_two", 0.0): 2.58,
    ("best_of_two", 5.0): 3.93,
    ("best_of_two", 20.0): 6.90,
    ("global_least", 0.0): 1.08,
    ("global_least", 5.0): 12.6,
    ("global_least", 20.0): 56.0,
}
DEEPEST_TAIL = 3
_CHOICES = {"random": 1, "best_of_two": 2, "best_of_three": 3}


@dataclass(frozen=True, slots=True)
class Check:
    """One figure. source: who says `expected`; judged: whether it has to be within ALLOWED."""

    name: str
    expected: float
    found: float
    source: str
    judged: bool = True

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
    """How long the checks run: service times (as long again for one choice, whose queues forget slowly), and seeds."""

    length: float = 3_000.0
    seeds: int = 4
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
    # Shards, events a shard, seeds. max - mean of best of d is two or three events however many come: many seeds of few
    # events say more there; random needs many events for its formula.
    small = [(100, 100, 100), (100, 1_000, 20)]
    large = {1: (effort.max_shards, 100, 4)}
    # One tenant: these policies look at no tenant.
    return [
        policies.Scenario(policy, shards, 1, 0.0, mean, 0, seed)
        for policy, choices in _CHOICES.items()
        for shards, mean, seeds in (*small, large.get(choices, (effort.max_shards, 10, 40)))
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
        for policy, age in PUBLISHED_STALE
        if (policy, age) != ("best_of_two", 0.0)
        for seed in range(effort.seeds)
    ]
    return found


def _of_placements(scenarios: Sequence[policies.Scenario], differences: Sequence[float]) -> list[Check]:
    groups: dict[tuple[str, int, int], list[float]] = {}
    for scenario, difference in zip(scenarios, differences, strict=True):
        groups.setdefault((scenario.policy, scenario.shards, scenario.events_a_shard), []).append(difference)
    checks = []
    for (policy, shards, mean), found in groups.items():
        middle, choices = statistics.fmean(found), _CHOICES[policy]
        about = f"{policy}, {shards:,} shards, {mean:,} events a shard"
        if choices == 1:
            formula = theory.random_max_asymptotic(shards, mean)
            checks.append(Check(f"max: {about}", formula, mean + middle, "m/n + sqrt(2 (m/n) ln n)"))
            exact = theory.random_max(shards, mean) - mean
            checks.append(Check(f"max - mean: {about}", exact, middle, "maximum of binomials"))
        else:
            fluid = theory.best_of_max(shards, mean, choices) - mean
            checks.append(Check(f"max - mean: {about}", fluid, middle, "fluid limit"))
    return checks


def _of_queues(scenarios: Sequence[queueing.Scenario], outcomes: Sequence[queueing.Outcome]) -> list[Check]:
    groups: dict[tuple[str, float], list[queueing.Outcome]] = {}
    for scenario, outcome in zip(scenarios, outcomes, strict=True):
        groups.setdefault((scenario.policy, scenario.report_age), []).append(outcome)
    checks = []
    for (policy, age), found in groups.items():
        response = statistics.fmean(outcome.response for outcome in found)
        if policy in _CHOICES and not age:
            choices = _CHOICES[policy]
            expected = theory.mean_response(LOAD, choices)
            checks.append(
                Check(f"mean response: {policy}, load {LOAD}", expected, response, "Mitzenmacher, n = infinity")
            )
            tail = theory.queue_tail(LOAD, choices, DEEPEST_TAIL)
            for depth in range(1, DEEPEST_TAIL + 1):
                part = statistics.fmean(outcome.tail[depth] for outcome in found)
                name = f"P(depth >= {depth}): {policy}, load {LOAD}"
                checks.append(Check(name, tail[depth], part, "load^((d^i - 1)/(d - 1))", judged=tail[depth] > 0.1))
        if (policy, age) in PUBLISHED_STALE:
            name = f"mean response: {policy}, depths {age:g} service times old"
            # How the least of all draws a tie decides how it herds, and nobody says how that was for capacity.md.
            judged = policy in _CHOICES
            checks.append(Check(name, PUBLISHED_STALE[policy, age], response, "capacity.md", judged))
    return checks
