"""The measuring half of a plan: what the search asks for, run after run, and the drain after an outage."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtest.bench import machine
from loadtest.open_loop.spec import LoadSpec
from loadtest.plan import outage
from loadtest.plan.judge import verdict
from loadtest.plan.measured import Drain, Fleet, Measured, Objective, Run
from loadtest.plan.readings import completed_per_second, rate_words
from loadtest.plan.rig import Rig
from loadtest.plan.runner import FUNCTIONS, Runner
from loadtest.plan.search import Request, Scope, Search

# Before the first run has told how long one takes beyond its schedule: start, drain, looks.
GUESSED_OVERHEAD_SECONDS = 2.0
START_SECONDS = 8.0
OUTAGE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What to measure. spec: every run's, but for rate, seed and doors; outage_seconds: 0 leaves the drain out."""

    objective: Objective
    scope: Scope
    spec: LoadSpec
    outage_seconds: float = OUTAGE_SECONDS


class Watcher(Protocol):
    """Whom a plan tells how far it is."""

    def doing(self, what: str, seconds_left: float) -> None:
        """What is under way now, and about how long everything takes from here."""

    def done(self, words: str) -> None:
        """One thing has ended, and what became of it."""


class Measuring:
    """`run` once; `measured` at any time, also after it was cancelled."""

    def __init__(self, asked: Asked, rig: Rig, folder: Path, watcher: Watcher) -> None:
        self.search = Search(asked.scope)
        self._asked = asked
        self._rig = rig
        self._watcher = watcher
        self._runner = Runner(rig, asked.spec, asked.objective, folder)
        self._began = time.time()
        self._fleet: Fleet | None = None
        self._machine: dict[str, str | int] = {}
        self._runs: list[Run] = []
        self._drain: Drain | None = None
        self._memory: tuple[dict[str, int], dict[str, int]] | None = None

    async def run(self) -> Measured:
        """Everything; the rig is ended, whatever happens. PlanError, CliError: the fleet or the driver failed."""
        try:
            self._watcher.doing("starting", self._seconds_left())
            await self._rig.start()
            self._machine = machine.describe_host(self._rig.site.data)
            self._fleet = await self._rig.site.describe(self._rig.asked.settings)
            await self._runner.prepare()
            while (request := self.search.next()) is not None:
                await self._make(request)
            if self._asked.outage_seconds and self.search.best_per_second:
                self._watcher.doing("drain", self._drain_seconds())
                self._drain = await outage.measure(
                    self._runner, self.search.best_per_second, self._asked.outage_seconds, self.search.drivers
                )
                self._watcher.done(f"drain: {drain_words(self._drain)}")
        finally:
            await self._rig.stop()
        found = self.measured()
        assert found is not None
        return found

    def measured(self) -> Measured | None:
        """What is there so far; None: not one run."""
        if self._fleet is None or not self._runs:
            return None
        return Measured(
            machine=self._machine,
            fleet=self._fleet,
            objective=self._asked.objective,
            spec=self._runner.spec,
            runs=tuple(self._runs),
            drain=self._drain,
            began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            seconds=round(time.time() - self._began, 1),
            memory_bytes=self._memory[0] if self._memory else {},
            function_memory_mb=FUNCTIONS.memory_mb,
            memory_unread=self._memory[1] if self._memory else {},
        )

    @property
    def looking_part(self) -> float:
        """Part of a core that looking at the fleet took meanwhile."""
        return self._runner.looking_seconds / max(self._runner.looked_seconds, 1e-9)

    async def _make(self, request: Request) -> None:
        if request.purpose not in ("search", "repeat") and self._memory is None:
            self._memory = self._rig.site.memory()
        self._watcher.doing(words_of(request), self._seconds_left())
        run = await self._runner.run(request)
        self._runs.append(run)
        said = verdict(run, self._asked.objective, self._runner.spec)
        self.search.told(said)
        self._watcher.done(f"{words_of(request)}: {outcome_words(run)}")

    def _seconds_left(self) -> float:
        schedule = self._asked.spec.traffic.seconds
        spent = time.time() - self._began
        a_run = spent / len(self._runs) if self._runs else schedule + GUESSED_OVERHEAD_SECONDS
        start = 0.0 if self._runs else START_SECONDS
        return start + self.search.runs_left() * a_run + self._drain_seconds()

    def _drain_seconds(self) -> float:
        return outage.whole_seconds(self._asked.outage_seconds) if self._asked.outage_seconds else 0.0


def words_of(request: Request) -> str:
    """A run, for people."""
    if request.callers:
        return f"{request.purpose}, {request.callers} callers"
    return f"{request.purpose}, {rate_words(request.per_second)}"


def drain_words(drain: Drain) -> str:
    """What became of the backlog, for people."""
    if drain.seconds is None:
        return f"{drain.backlog:,} events, not drained within {drain.within_seconds:.1f} s"
    return f"{drain.backlog:,} events in {drain.seconds:.1f} s"


def outcome_words(run: Run) -> str:
    """What became of it, for people."""
    result = run.result
    if result.void:
        return f"void: {result.void[0]}"
    accept, start = (f"{one.p99_ms:.0f}" if one else "-" for one in (result.accept, result.start))
    figures = f"{rate_words(completed_per_second(run))} ended, p99 accept {accept} ms, start {start} ms"
    return f"{figures}; failed: {', '.join(run.failed)}" if run.failed else figures
