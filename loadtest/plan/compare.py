"""Two plans side by side: two commits, or two designs. `run` reads and writes files; the rest is pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.bench.stats import shown
from loadtest.plan import files
from loadtest.plan.best_rate import BestRate
from loadtest.plan.findings import Findings
from loadtest.plan.intervals import Interval
from loadtest.plan.measured import Measured
from loadtest.plan.report import compare_page
from loadtest.plan.report.runs import told_load

# They differ between any two runs, and the commit is often what is compared.
_EXPECTED = ("time", "load_average", "commit")


@dataclass(frozen=True, slots=True)
class Plan:
    """One side, by the name it has in the comparison."""

    name: str
    measured: Measured
    findings: Findings


@dataclass(frozen=True, slots=True)
class Ratio:
    """b over a. interval: from the ends of both intervals that are farthest apart (wider than 95 %); None: one side has
    none. differs: the sides' intervals do not overlap; without intervals nothing is shown to differ."""

    what: str
    a: float
    b: float
    ratio: float | None
    interval: Interval | None
    differs: bool

    @property
    def verdict(self) -> str:
        """In words."""
        if self.interval is None:
            return "no interval on one side: no difference shown"
        if not self.differs:
            return "no difference shown"
        return "b is higher" if self.b > self.a else "b is lower"


@dataclass(frozen=True, slots=True)
class Comparison:
    """unlike: what has to be the same for a comparison and is not (machine, objective, load), by name: (a, b).
    changed: what may be the design that is compared (commit, fleet, settings). best: of the rates; demands: CPU
    seconds an event, by service that both have and that an event costs anything."""

    a: Plan
    b: Plan
    best: Ratio
    demands: Sequence[Ratio]
    unlike: Mapping[str, tuple[str, str]]
    changed: Mapping[str, tuple[str, str]]

    @property
    def not_comparable(self) -> Sequence[str]:
        """Why, in words; empty: both were measured alike and validly."""
        sides = (("a", self.a), ("b", self.b))
        invalid = [f"the runs of {name} were not valid" for name, plan in sides if not plan.findings.generator.valid]
        differ = f"{', '.join(self.unlike)} {'differs' if len(self.unlike) == 1 else 'differ'}"
        return [differ, *invalid] if self.unlike else invalid

    @property
    def is_fair(self) -> bool:
        """Whether the figures may be set against each other."""
        return not self.not_comparable


def compare(a: Plan, b: Plan) -> Comparison:
    """See Comparison."""
    shared = [name for name in a.findings.demands if name in b.findings.demands and not _both_idle(name, a, b)]
    return Comparison(
        a=a,
        b=b,
        best=_ratio(
            "best rate, events/s",
            (a.findings.best.per_second, _range(a.findings.best)),
            (b.findings.best.per_second, _range(b.findings.best)),
        ),
        demands=tuple(
            _ratio(name, *((one.cpu_seconds_an_event, one.interval) for one in sides))
            for name in shared
            for sides in [(a.findings.demands[name], b.findings.demands[name])]
        ),
        unlike=_differences(_conditions(a.measured), _conditions(b.measured)),
        changed=_differences(_design(a.measured), _design(b.measured)),
    )


def run(a: Path, b: Path, html: Path | None) -> str:
    """The comparison of two plans' JSON files as text; html: the page to write as well.

    files.PlanFileError: a file is no plan. ValueError: the page's name does not end in .html.
    """
    if html is not None and html.suffix != ".html":
        raise ValueError(f"{html}: the page's name ends in .html")
    name_a, name_b = _names(a, b)
    found = compare(Plan(name_a, *files.load(a)), Plan(name_b, *files.load(b)))
    text = as_text(found)
    if html is not None:
        files.write_whole(html, compare_page.write(found, text))
    return text


def as_text(found: Comparison) -> str:
    """For a terminal, a line a figure."""
    lines = [f"a: {_side(found.a)}", f"b: {_side(found.b)}"]
    if not found.is_fair:
        lines.insert(0, f"Not comparable: {'; '.join(found.not_comparable)}")
    for name, (one, other) in found.unlike.items():
        lines.append(f"differs: {name}: {one} in a, {other} in b")
    lines += [f"changed: {name}: {one} in a, {other} in b" for name, (one, other) in found.changed.items()]
    lines.append(_line(found.best, 1.0, found.is_fair))
    lines += [_line(one, 1_000.0, found.is_fair, "CPU ms an event of ") for one in found.demands]
    return "\n".join(lines)


def _side(plan: Plan) -> str:
    best = plan.findings.best
    return (
        f"{plan.name}: holds {shown(best.per_second)} events/s, commit {plan.measured.machine.get('commit', 'unknown')}"
    )


def _line(one: Ratio, times: float, is_fair: bool, before: str = "") -> str:
    ratio = "" if one.ratio is None else f", b/a {shown(one.ratio)}"
    reach = "" if one.interval is None else f" ({shown(one.interval.low)} to {shown(one.interval.high)})"
    verdict = f": {one.verdict}" if is_fair else ""
    return f"{before}{one.what}: a {shown(one.a * times)}, b {shown(one.b * times)}{ratio}{reach}{verdict}"


def _range(best: BestRate) -> Interval | None:
    """The rates that it may truly hold. A search has steps: the interval of its repeats alone would make two
    neighbouring steps a difference."""
    if best.limit_interval is None or not best.per_second:
        return None
    return Interval(min(best.per_second, best.limit_interval.low), max(best.per_second, best.limit_interval.high))


def _ratio(what: str, a: tuple[float, Interval | None], b: tuple[float, Interval | None]) -> Ratio:
    (value_a, within_a), (value_b, within_b) = a, b
    ratio = value_b / value_a if value_a else None
    if within_a is None or within_b is None or ratio is None:
        return Ratio(what, value_a, value_b, ratio, None, False)
    # An interval that reaches 0 has no finite ratio: its own value is as far as it can be told.
    lowest = within_a.low if within_a.low > 0 else value_a
    reach = Interval(within_b.low / within_a.high, within_b.high / lowest)
    return Ratio(what, value_a, value_b, ratio, reach, not within_a.overlaps(within_b))


def _conditions(measured: Measured) -> dict[str, str]:
    machine = {name: str(value) for name, value in measured.machine.items() if name not in _EXPECTED}
    bounds = {f"objective {name}": f"{value:g}" for name, value in asdict(measured.objective).items()}
    return {**machine, **bounds, **{f"load {name}": value for name, value in told_load(measured).items()}}


def _design(measured: Measured) -> dict[str, str]:
    fleet = measured.fleet
    return {
        "commit": str(measured.machine.get("commit", "unknown")),
        "shards": str(fleet.shards),
        "slots": str(fleet.slots),
        **{f"{name} processes": str(count) for name, count in fleet.replicas.items()},
        **fleet.settings,
    }


def _both_idle(service: str, a: Plan, b: Plan) -> bool:
    """A service off the events' way: the ratio of two noises says nothing."""
    found = [plan.findings.demands[service].interval for plan in (a, b)]
    return all(one is not None and one.low == 0 for one in found)


def _differences(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys([*a, *b])
    return {name: (a.get(name, "absent"), b.get(name, "absent")) for name in names if a.get(name) != b.get(name)}


def _names(a: Path, b: Path) -> tuple[str, str]:
    if a.stem != b.stem:
        return a.stem, b.stem
    return (str(a), str(b)) if str(a) != str(b) else (f"a {a}", f"b {b}")
