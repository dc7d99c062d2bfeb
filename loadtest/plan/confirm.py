"""A saved plan's prediction put to the test: the fleet that it asks for at a rate, and one replica fewer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loadtest.plan.findings import Findings, needed
from loadtest.plan.measure import GUESSED_OVERHEAD_SECONDS, START_SECONDS, Watcher, outcome_words
from loadtest.plan.measured import Measured, Run
from loadtest.plan.readings import is_of_fleet, rate_words
from loadtest.plan.replicas import MAX_UTILISATION
from loadtest.plan.rig import FleetAsked, PlanError, Rig
from loadtest.plan.runner import Runner
from loadtest.plan.search import MAX_DRIVERS, Request
from loadtest.plan.slots import SLOTS_KEY

RUNS = 3
# Instead of void ones, each.
MAX_FURTHER_RUNS = 3
# Of one fleet: the next one would be void, too.
MAX_VOID_IN_A_ROW = 3
# What `evenflow up` runs one of.
ONE_OF_EACH = ("frontend", "control")
MAX_PROCESSES = 16
PREDICTED = "predicted"
# A rate nearer than this part to one of the plan's runs was measured, not predicted.
ALIKE = 0.01
# What a machine tells of itself that differs between any two runs.
_PASSING = ("time", "load_average")


@dataclass(frozen=True, slots=True)
class Trial:
    """A fleet to try. name: "predicted" or "one NAME fewer"."""

    name: str
    replicas: Mapping[str, int]


def trials(measured: Measured, findings: Findings, per_second: float) -> list[Trial]:
    """The fleet that the plan asks for at this rate, and the same with one fewer of what is full first; only the former
    where nothing can be fewer. PlanError: nothing is predicted, or this machine cannot run it. Pure."""
    try:
        asked = needed(findings, per_second)
    except ValueError as e:
        raise PlanError(str(e)) from e
    if asked is None:
        raise PlanError("this plan predicts nothing: it has too few runs that count; make it again")
    near = [run for run in measured.runs if is_of_fleet(run) and abs(run.per_second / per_second - 1) <= ALIKE]
    if near:
        raise PlanError(
            f"{per_second:g}/s is within {100 * ALIKE:g} % of {near[0].per_second:g}/s, which the plan was made from: "
            "confirm it at another rate"
        )
    replicas = {**measured.fleet.replicas, **asked.replicas}
    for name in ONE_OF_EACH:
        if replicas.get(name, 1) > 1:
            raise PlanError(
                f"at {per_second:g}/s the plan asks for {replicas[name]} of {name}, and `evenflow up` runs one: "
                "confirm it at a lower rate"
            )
    if (processes := sum(replicas.values())) > MAX_PROCESSES:
        raise PlanError(
            f"at {per_second:g}/s the plan asks for {processes} processes; up to {MAX_PROCESSES} are tried on one "
            "machine: confirm it at a lower rate"
        )
    found = [Trial(PREDICTED, replicas)]
    if fewer := _to_lessen(replicas, findings.bottleneck.service):
        found.append(Trial(f"one {fewer} fewer", {**replicas, fewer: replicas[fewer] - 1}))
    return found


def unlike(planned: Mapping[str, str | int], here: Mapping[str, str | int]) -> list[str]:
    """What this machine and commit are other in than the plan's, a line each; none: the plan may be confirmed here.
    Pure."""
    names = [name for name in dict.fromkeys([*planned, *here]) if name not in _PASSING]
    return [
        f"not as planned: {name.replace('_', ' ')} was {planned.get(name, 'unknown')}, here it is "
        f"{here.get(name, 'unknown')}"
        for name in names
        if planned.get(name) != here.get(name)
    ]


def _to_lessen(replicas: Mapping[str, int], bottleneck: str) -> str:
    """The service to try one fewer of; empty: there is one of each."""
    if replicas.get(bottleneck, 0) > 1:
        return bottleneck
    several = {name: count for name, count in replicas.items() if count > 1}
    return max(several, key=lambda name: several[name], default="")


class Confirming:
    """`run` once; `runs` at any time."""

    def __init__(
        self, measured: Measured, findings: Findings, per_second: float, folder: Path, watcher: Watcher
    ) -> None:
        """PlanError: see trials."""
        self.trials = trials(measured, findings, per_second)
        self.runs: list[Run] = []
        self._measured = measured
        self._per_second = per_second
        self._folder = folder
        self._watcher = watcher

    async def run(self) -> Measured:
        """Every trial, until one has no run that counts; what it found is added to the plan's runs.

        PlanError: a fleet or a driver failed.
        """
        for index, trial in enumerate(self.trials):
            before = len(self.runs)
            await self._try(trial, len(self.trials) - index)
            if all(run.result.void for run in self.runs[before:]):
                break
        return self.measured()

    @property
    def seconds(self) -> float:
        """About how long all trials take."""
        return len(self.trials) * self._trial_seconds

    def measured(self) -> Measured:
        """The plan with what was found so far."""
        return replace(self._measured, runs=(*self._measured.runs, *self.runs))

    @property
    def _run_seconds(self) -> float:
        return self._measured.spec.traffic.seconds + GUESSED_OVERHEAD_SECONDS

    @property
    def _trial_seconds(self) -> float:
        return START_SECONDS + RUNS * self._run_seconds

    async def _try(self, trial: Trial, trials_left: int) -> None:
        told = self._measured
        replicas = trial.replicas
        asked = FleetAsked(
            replicas.get("queue", 1),
            replicas.get("poller", 1),
            replicas.get("runtime", 1),
            told.fleet.shards,
            # Those of a fleet that ran already are not known: at least its slots are the same.
            {SLOTS_KEY: str(told.fleet.slots), **told.fleet.settings},
        )
        rig = Rig(asked)
        runner = Runner(rig, told.spec, told.objective, self._folder)
        try:
            self._watcher.doing(f"{trial.name}: starting", trials_left * self._trial_seconds)
            await rig.start()
            await runner.prepare()
            drivers, counting, void_in_a_row = told.spec.drivers, 0, 0
            for number in range(RUNS + MAX_FURTHER_RUNS):
                if counting == RUNS:
                    return
                if void_in_a_row == MAX_VOID_IN_A_ROW:
                    self._watcher.done(f"{trial.name}: given up after {void_in_a_row} void runs in a row")
                    return
                left = (RUNS - counting) * self._run_seconds + (trials_left - 1) * self._trial_seconds
                self._watcher.doing(f"{trial.name}, {rate_words(self._per_second)}", left)
                request = Request("confirm", self._per_second, f"confirm {trial.name} {number}", drivers)
                run = await runner.run(request, rig.site.replicas)
                self.runs.append(run)
                counting += not run.result.void
                void_in_a_row = void_in_a_row + 1 if run.result.void else 0
                drivers = min(2 * drivers, MAX_DRIVERS) if run.result.void else drivers
                self._watcher.done(f"{trial.name}, {rate_words(self._per_second)}: {outcome_words(run)}")
        finally:
            await rig.stop()


def announced(trials_made: Sequence[Trial], per_second: float) -> str:
    """What is about to be tried, in one sentence. Pure."""
    asked = ", ".join(f"{name} {count}" for name, count in trials_made[0].replicas.items())
    names = " and ".join(one.name for one in trials_made)
    return (
        f"at {rate_words(per_second)} the plan asks for {asked}, so that each is used to at most "
        f"{100 * MAX_UTILISATION:.0f} %; {RUNS} runs of each fleet ({names}), {RUNS * len(trials_made)} in all"
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """lines: one for each trial, and the verdict last. is_known: each trial has a run that counts; without, nothing is
    shown."""

    lines: Sequence[str]
    is_known: bool


def summary(trials_made: Sequence[Trial], runs: Sequence[Run]) -> Summary:
    """Whether the prediction held. Pure."""
    lines, wrong, is_known = [], [], True
    for trial in trials_made:
        all_of_it = [run for run in runs if dict(run.replicas) == dict(trial.replicas)]
        if not all_of_it:
            lines.append(f"{trial.name}: not tried")
            is_known = False
            continue
        mine = [run for run in all_of_it if not run.result.void]
        held = sum(not run.failed for run in mine)
        shown = ", ".join(f"{name} {count}" for name, count in trial.replicas.items())
        planned = f", planned to {100 * MAX_UTILISATION:.0f} % use" if trial.name == PREDICTED else ""
        void = f"; {len(all_of_it) - len(mine)} more were void" if len(mine) < len(all_of_it) else ""
        lines.append(f"{trial.name} ({shown}{planned}): {held} of {len(mine)} runs that count held the objective{void}")
        is_known &= bool(mine)
        if (holds := 2 * held > len(mine)) != (trial.name == PREDICTED):
            wrong.append(_why_wrong(trial, holds))
    if len(trials_made) == 1:
        lines.append("one replica fewer was not tried: there is one of each")
    if not is_known:
        return Summary([*lines, "nothing is shown: every run of a fleet was void"], False)
    verdict = f"the prediction did not hold: {'; '.join(wrong)}" if wrong else "the prediction held"
    return Summary([*lines, verdict], True)


def _why_wrong(trial: Trial, holds: bool) -> str:
    if not holds:
        return "the fleet that it asks for was not enough"
    return (
        f"{trial.name} was enough, too (it plans each to {100 * MAX_UTILISATION:.0f} % use: what that leaves may carry "
        "the rate)"
    )
