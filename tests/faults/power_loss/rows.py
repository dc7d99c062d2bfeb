"""One row of the table: a node, healthy or a mutant, recorded and replayed."""

import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.power_loss.mutants import MUTANTS
from tests.faults.power_loss.recording import Recording, record
from tests.faults.power_loss.replay import Tally, replay_all

HEALTHY = "healthy"
# Operations of the client in each run of a recording.
STEPS = 40
HEALTHY_SEEDS = 6
MUTANT_SEEDS = 2
# A mutant is caught by much fewer states than trust in the healthy node takes.
MUTANT_SHARE = 25
MUTANT_MIN_STATES = 300
KEPT, BROKEN, CAUGHT, MISSED = "kept", "BROKEN", "caught", "MISSED"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a row does."""

    name: str
    breaks: str
    states: int
    seeds: list[int]

    @property
    def mutant(self) -> str:
        """Which mutant to apply; "" for none."""
        return "" if self.name == HEALTHY else self.name


@dataclass(slots=True)
class Row:
    """What came of it. `seconds` by the wall clock, `cpu_seconds` of all processes."""

    plan: Plan
    recordings: list[Recording] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def states(self) -> int:
        """States examined."""
        return sum(self.tally.states.values())

    @property
    def accepted(self) -> int:
        """Events accepted in all recordings."""
        return sum(recording.accepted for recording in self.recordings)

    @property
    def calls(self) -> Counter[str]:
        """Recorded calls and marks, by kind."""
        return sum((Counter(recording.calls) for recording in self.recordings), Counter())

    @property
    def answered(self) -> Counter[str]:
        """Events in answered operations, by the places that these may leave them in."""
        return sum((Counter(recording.answered) for recording in self.recordings), Counter())

    @property
    def verdict(self) -> str:
        """Whether the node kept its promises, or the mutant was caught."""
        if self.plan.mutant:
            return MISSED if self.tally.is_good else CAUGHT
        return KEPT if self.tally.is_good else BROKEN

    @property
    def is_right(self) -> bool:
        """Whether it is as it must be."""
        return self.verdict in (KEPT, CAUGHT)


def plans(states: int, seed: int, only: str = "") -> list[Plan]:
    """The rows to run. ValueError: no row has that name."""
    seeds = list(range(seed, seed + HEALTHY_SEEDS))
    few = min(states, max(MUTANT_MIN_STATES, states // MUTANT_SHARE))
    found = [Plan(HEALTHY, "", states, seeds)]
    found += [Plan(mutant.name, mutant.breaks, few, seeds[:MUTANT_SEEDS]) for mutant in MUTANTS]
    if only and only not in (plan.name for plan in found):
        raise ValueError(f"no row is called {only}: {', '.join(plan.name for plan in found)}")
    return [plan for plan in found if only in ("", plan.name)]


async def run(plan: Plan, library: Path, folder: Path, steps: int = STEPS) -> Row:
    """Record and replay in this folder, which holds up the loop. NodeFailed, TimeoutError, ValueError: no recording."""
    row = Row(plan)
    started, cpu_before = time.monotonic(), _cpu_seconds()
    for seed in plan.seeds:
        place = folder / f"{plan.name}-{seed}"
        place.mkdir()
        row.recordings.append(await record(place, library, seed, steps, plan.mutant))
    row.tally = replay_all(row.recordings, plan.states, plan.mutant)
    row.seconds, row.cpu_seconds = time.monotonic() - started, _cpu_seconds() - cpu_before
    return row


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)
