"""Which run a plan needs next: the search for the highest rate that holds, then the runs around it. Pure.

Phases: double from a start rate until one fails, bisect, repeat the best rate, run its neighbours, overload it, then
the curve, then closed loops. A rate fails by two of three runs. A void run counts neither way: it is repeated once,
with more drivers where the generator was full.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum

# Below it a rate means nothing: a run of seconds has no p99 there.
LEAST_PER_SECOND = 1.0
# Of runs without an end in sight; a curve and closed loops of the usual size need about 70.
MAX_RUNS = 200
MAX_DRIVERS = 8
# Steps down from a best rate that most of its repeats do not confirm.
MAX_STEPS_DOWN = 6
# Instead of one that was void.
FURTHER_RUNS = 1
# Repeats that were void twice are made up for by at most so many more.
FURTHER_REPEATS = 2
# Of the best rate: so far beyond it that the fleet works as fast as it can.
OVERLOAD = 1.5
_CONFIRMING_RUNS = 3


class Verdict(Enum):
    """What a run says of its rate. OVERLOADED: failed so plainly that noise cannot have done it; VOID: nothing; FULL:
    nothing, as the generator's own process was full, which more drivers may help."""

    HELD = "held"
    FAILED = "failed"
    OVERLOADED = "overloaded"
    VOID = "void"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Request:
    """A run to make. purpose: as in measured.Run; callers: 0, or a closed loop; seed: other in every run."""

    purpose: str
    per_second: float
    seed: str
    drivers: int
    callers: int = 0


@dataclass(frozen=True, slots=True)
class Scope:
    """How far a search goes. Rates in events a second.

    resolution: it ends when the lowest failing rate is at most this part above the highest one that held. repeats: of
    the best rate, and of OVERLOAD times it where a limit was found; around: runs at one resolution below and above
    it, each. curve: multiples of the best rate. callers: sizes of the closed loops.
    """

    start_per_second: float = 100.0
    max_per_second: float = 100_000.0
    resolution: float = 0.05
    repeats: int = 5
    around: int = 2
    curve: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25)
    callers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    seed: str = "1"
    drivers: int = 1
    max_drivers: int = MAX_DRIVERS
    max_runs: int = MAX_RUNS

    def __post_init__(self) -> None:
        """ValueError: not within bounds."""
        if not LEAST_PER_SECOND <= self.start_per_second <= self.max_per_second:
            raise ValueError(
                f"the start rate must be within {LEAST_PER_SECOND:g} and the highest rate "
                f"({self.max_per_second:g}), not {self.start_per_second:g}"
            )
        if not 0 < self.resolution < 1:
            raise ValueError(f"the resolution is a part of the rate, above 0 and below 1, not {self.resolution:g}")
        if not 1 <= self.drivers <= self.max_drivers <= MAX_DRIVERS:
            raise ValueError(f"drivers: 1 to {MAX_DRIVERS}, not {self.drivers} to {self.max_drivers}")
        if self.repeats < 1 or self.around < 0 or self.max_runs < 1:
            raise ValueError("at least one repeat and one run, and no fewer than 0 around them")


_Steps = Generator[Request, Verdict, None]


class Search:
    """`next`, make that run, `told` of it, until `next` gives none."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        # The highest rate that held; 0: none did.
        self.best_per_second = 0.0
        # Why the search ended where it did, in words.
        self.notes: list[str] = []
        self.runs_made = 0
        self._drivers = scope.drivers
        self._low, self._high = 0.0, math.inf
        self._is_searching = True
        self._planned = 2 * scope.repeats + 2 * scope.around + len(scope.curve) + len(scope.callers)
        self._steps = self._all()
        self._pending: Request | None = next(self._steps, None)

    def next(self) -> Request | None:
        """The run to make now; None: all were made."""
        if self._pending is not None and self.runs_made >= self.scope.max_runs:
            self.notes.append(f"ended after {self.scope.max_runs} runs, the most that one plan makes")
            self._steps.close()
            self._pending = None
        return self._pending

    def told(self, verdict: Verdict) -> None:
        """What became of the run that `next` asked for. RuntimeError: it asked for none."""
        if self._pending is None:
            raise RuntimeError("no run was asked for")
        self.runs_made += 1
        if self._pending.purpose != "search":
            self._planned = max(0, self._planned - 1)
        try:
            self._pending = self._steps.send(verdict)
        except StopIteration:
            self._pending = None

    @property
    def drivers(self) -> int:
        """As many as were needed so far."""
        return self._drivers

    def runs_left(self) -> int:
        """About how many runs are still to come; never more than the bound."""
        if self._pending is None:
            return 0
        searching = 0
        if self._is_searching:
            ratio = self._high / self._low if self._low and math.isfinite(self._high) else 2.0
            halvings = math.log2(max(1.0, math.log(ratio) / math.log1p(self.scope.resolution)))
            # Each failing rate is run twice; until one fails it is unknown how far the doubling goes.
            searching = math.ceil(1.5 * halvings) + (0 if math.isfinite(self._high) else 3)
        return min(max(1, searching + self._planned), self.scope.max_runs - self.runs_made)

    # --- the phases

    def _all(self) -> _Steps:
        yield from self._bracket()
        yield from self._bisect()
        self.best_per_second = self._low
        self._is_searching = False
        if not self.best_per_second:
            self.notes.append(f"no rate from {self.scope.start_per_second:g}/s downwards held the objective")
            self._planned = len(self.scope.callers)
        else:
            yield from self._repeat()
            yield from self._around()
            yield from self._overload()
            yield from self._curve()
        yield from self._closed()

    def _bracket(self) -> _Steps:
        scope, rate = self.scope, self.scope.start_per_second
        while True:
            verdict = yield from self._decide(rate)
            if verdict is Verdict.HELD:
                self._low = rate
                if math.isfinite(self._high):
                    return
                if rate >= scope.max_per_second:
                    self.notes.append(f"the highest rate asked for ({rate:g}/s) still held: the limit is above it")
                    return
                rate = min(2 * rate, scope.max_per_second)
                continue
            if verdict is Verdict.VOID and self._low:
                yield from self._below_void(rate)
                return
            if verdict is not Verdict.VOID:
                self._high = rate
            if self._low or rate <= LEAST_PER_SECOND:
                return
            rate = max(LEAST_PER_SECOND, rate / 2)

    def _below_void(self, void_rate: float) -> _Steps:
        """Runs are void there: once more between that rate and the one that held, then the end."""
        rate = math.sqrt(self._low * void_rate)
        verdict = yield from self._decide(rate)
        if verdict is Verdict.HELD:
            self._low = rate
        if verdict is Verdict.FAILED:
            self._high = rate
            return
        self._note_void(void_rate if verdict is Verdict.HELD else rate)

    def _bisect(self) -> _Steps:
        while self._low and math.isfinite(self._high) and self._high > self._low * (1 + self.scope.resolution):
            rate = math.sqrt(self._low * self._high)
            verdict = yield from self._decide(rate)
            if verdict is Verdict.VOID:
                self._note_void(rate)
                return
            if verdict is Verdict.HELD:
                self._low = rate
            else:
                self._high = rate

    def _repeat(self) -> _Steps:
        """Repeats of the best rate; a rate that most of them do not hold is not the best one."""
        for _ in range(MAX_STEPS_DOWN):
            held, failed, rate = 0, 0, self.best_per_second
            for _ in range(self.scope.repeats + FURTHER_REPEATS):
                if held + failed == self.scope.repeats:
                    break
                verdict = yield from self._run("repeat", rate)
                held += verdict is Verdict.HELD
                failed += verdict in (Verdict.FAILED, Verdict.OVERLOADED)
            if held > failed or not failed:
                break
            self.notes.append(
                f"{rate:.4g}/s held once, and then {held} times in {held + failed} repeats: one step down"
            )
            self.best_per_second = max(LEAST_PER_SECOND, rate / (1 + self.scope.resolution))
            self._planned += self.scope.repeats
        else:
            self.notes.append(f"after {MAX_STEPS_DOWN} steps down repeats still fail: the figures scatter too much")

    def _around(self) -> _Steps:
        for times in (1 / (1 + self.scope.resolution), 1 + self.scope.resolution):
            for _ in range(self.scope.around):
                yield from self._run("around", self._bounded(times))

    def _overload(self) -> _Steps:
        if not math.isfinite(self._high) or self.best_per_second * OVERLOAD > self.scope.max_per_second:
            self.notes.append("the highest throughput was not measured: no overload was within the rates asked for")
            self._planned -= self.scope.repeats
            return
        for _ in range(self.scope.repeats):
            yield from self._run("overload", self.best_per_second * OVERLOAD)

    def _curve(self) -> _Steps:
        for times in self.scope.curve:
            yield from self._run("curve", self._bounded(times))

    def _bounded(self, times: float) -> float:
        return max(LEAST_PER_SECOND, min(self.scope.max_per_second, self.best_per_second * times))

    def _closed(self) -> _Steps:
        rate = self.best_per_second or self.scope.start_per_second
        for callers in self.scope.callers:
            yield from self._run("closed", rate, callers)

    # --- one rate

    def _decide(self, rate: float) -> Generator[Request, Verdict, Verdict]:
        """HELD, FAILED or VOID, by two of three runs where the first one failed without being overloaded."""
        held = failed = 0
        for _ in range(_CONFIRMING_RUNS):
            verdict = yield from self._run("search", rate)
            if verdict is Verdict.OVERLOADED:
                return Verdict.FAILED
            held += verdict is Verdict.HELD
            failed += verdict is Verdict.FAILED
            if verdict is Verdict.VOID or failed == 2:
                break
            if held > failed and (held == 2 or not failed):
                return Verdict.HELD
        # A failure whose confirmation was void stands: nothing speaks against it.
        return Verdict.FAILED if failed else Verdict.VOID

    def _run(self, purpose: str, rate: float, callers: int = 0) -> Generator[Request, Verdict, Verdict]:
        """One run, and where it was void one more; void is VOID from here on."""
        verdict = yield self._request(purpose, rate, callers)
        for _ in range(FURTHER_RUNS):
            if verdict not in (Verdict.VOID, Verdict.FULL):
                return verdict
            if verdict is Verdict.FULL:
                self._drivers = min(2 * self._drivers, self.scope.max_drivers)
            verdict = yield self._request(purpose, rate, callers)
        return Verdict.VOID if verdict is Verdict.FULL else verdict

    def _request(self, purpose: str, rate: float, callers: int) -> Request:
        return Request(purpose, rate, f"{self.scope.seed} {self.runs_made}", self._drivers, callers)

    def _note_void(self, rate: float) -> None:
        self.notes.append(
            f"the search ended below {rate:.4g}/s, where runs were void, so nothing of the fleet is known there: "
            "it may carry more"
        )
