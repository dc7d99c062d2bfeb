"""Response time against the age of the depths that frontends choose by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtest.simulate import queueing
from loadtest.simulate.parallel import run_all

AGES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)
FRONTENDS = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: mean response in service times, for each of `ages`."""

    name: str
    ages: Sequence[float]
    responses: Sequence[float]


# Name, policy, kind of reports, frontends.
_CURVES = (
    ("random", "random", "board", 1),
    ("best of two", "best_of_two", "board", 1),
    (f"best of two, own sends counted, {FRONTENDS} frontends", "best_of_two", "own_sends", FRONTENDS),
    ("best of four", "best_of_four", "board", 1),
    ("least of all", "global_least", "board", 1),
    (f"least of all, own sends counted, {FRONTENDS} frontends", "global_least", "own_sends", FRONTENDS),
)


def make(
    shards: int, load: float, length: float, seed: int, processes: int = 0, done: Callable[[], None] = lambda: None
) -> list[Curve]:
    """All lines; `done` is called runs_of() times."""
    scenarios = [
        queueing.Scenario(
            policy, shards, load, reports=kind, report_age=age, frontends=frontends, length=length, seed=seed
        )
        for _, policy, kind, frontends in _CURVES
        for age in AGES
    ]
    outcomes = iter(run_all(queueing.run, scenarios, processes, done))
    return [Curve(name, AGES, [next(outcomes).response for _ in AGES]) for name, *_ in _CURVES]


def runs_of() -> int:
    """Runs, for a progress bar."""
    return len(_CURVES) * len(AGES)
