"""Whether the runs say something about the fleet, or about their own generator. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.plan.best_rate import BestRate
from loadtest.plan.measured import Measured
from loadtest.plan.readings import counts, is_of_fleet

# With more of them void the plan is one of the generator.
MAX_VOID_PART = 0.20


@dataclass(frozen=True, slots=True)
class VoidRun:
    """A run that was left out, and why."""

    purpose: str
    per_second: float
    callers: int
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True)
class Generator:
    """valid: no repeat of the best rate is void, and at most MAX_VOID_PART of all. busiest_core: the most that one
    driver used in a valid run, 0 to 1; late_part: the largest part of the sends of a valid run that were late."""

    valid: bool
    runs: int
    void: Sequence[VoidRun]
    busiest_core: float
    late_part: float


def generator(measured: Measured, best: BestRate) -> Generator:
    """See Generator."""
    mine = [run for run in measured.runs if is_of_fleet(run)]
    void = tuple(
        VoidRun(run.purpose, run.per_second, run.callers, tuple(run.result.void)) for run in mine if run.result.void
    )
    counted = [run.result for run in mine if counts(run)]
    return Generator(
        valid=bool(counted)
        and not best.void
        and not any(one.purpose == "repeat" for one in void)
        and len(void) <= MAX_VOID_PART * len(mine),
        runs=len(mine),
        void=void,
        busiest_core=max((one.generator_cpu for one in counted), default=0.0),
        late_part=max((one.late / one.planned for one in counted if one.planned), default=0.0),
    )
