"""docs/benchmarks/history.jsonl: what each saved run found, a line a run, oldest first."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.bench.rows import ROWS
from loadtest.bench.stats import Summary, summarize

FORMAT = 1
# What makes two machines alike. A kernel or a Python that is newer is a change worth seeing.
IDENTITY = ("cpu", "cores", "memory_mib", "file_system")
# Of memory, which a kernel tells a little differently from boot to boot.
MEMORY_TOLERANCE = 0.05
# So many saved runs are looked back on: a loss too small to show from run to run adds up over them.
MAX_BACK = 10


@dataclass(frozen=True, slots=True)
class SavedGoal:
    """As it was judged then. `ratio`: Evenflow's median over the best peer's; None without peers."""

    goal: str
    ratio: float | None
    met: bool | None


@dataclass(frozen=True, slots=True)
class SavedRow:
    """One row. `ratios`: Evenflow's figure over each peer's: of the medians, low and high over the rounds."""

    unit: str
    evenflow: Summary
    peers: Mapping[str, Summary]
    ratios: Mapping[str, Summary]
    goals: tuple[SavedGoal, ...]


@dataclass(frozen=True, slots=True)
class SavedRun:
    """One run. `machine`: the facts of IDENTITY, and kernel and Python; `up`: further arguments of `evenflow up`."""

    time: str
    commit: str
    machine: Mapping[str, Any]
    is_quick: bool
    up: tuple[str, ...]
    # By measure, as rows.py names them.
    rows: Mapping[str, SavedRow]


def of_report(facts: Mapping[str, Any]) -> SavedRun:
    """What report.as_json told of a run."""
    about, run = facts["machine"], facts["run"]
    return SavedRun(
        time=about["time"],
        commit=about["commit"],
        machine={name: about[name] for name in (*IDENTITY, "kernel", "python")},
        is_quick=run["quick"],
        up=tuple(run["up"]),
        rows={row["measure"]: _row_of(row, facts["peers"]) for row in facts["rows"]},
    )


def _row_of(told: Mapping[str, Any], peers: Mapping[str, Any]) -> SavedRow:
    measure = next((row.peer_measure for row in ROWS if row.measure == told["measure"]), "")
    values = {key: peers[f"{measure}/{key}"]["values"] for key in told["peers"] if f"{measure}/{key}" in peers}
    return SavedRow(
        unit=told["unit"],
        evenflow=summarize(told["values"]),
        peers={key: summarize(theirs) for key, theirs in values.items()},
        ratios={key: ratio(told["values"], theirs) for key, theirs in values.items()},
        goals=tuple(SavedGoal(one["goal"], one["ratio"], one["met"]) for one in told["goals"]),
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """Ours over theirs: of the medians; the spread over the rounds, in each of which both were measured."""
    own, other = summarize(ours), summarize(theirs)
    middle = own.median / other.median
    if len(ours) == len(theirs):
        found = summarize([a / b for a, b in zip(ours, theirs, strict=True)])
        low, high = found.middle_half
        ends = (min(middle, found.low), max(middle, found.high))
        return Summary(middle, *ends, own.count, min(middle, low), max(middle, high))
    return Summary(middle, own.low / other.high, own.high / other.low, min(own.count, other.count))


def as_line(run: SavedRun) -> str:
    """For the file."""
    return json.dumps({"format": FORMAT, **asdict(run)})


def parse(line: str) -> SavedRun:
    """What as_line wrote. ValueError: another format."""
    told = json.loads(line)
    if told.pop("format") != FORMAT:
        raise ValueError(f"a line of docs/benchmarks/history.jsonl has another format than {FORMAT}")
    rows = {measure: _parse_row(row) for measure, row in told.pop("rows").items()}
    return SavedRun(**{**told, "up": tuple(told["up"])}, rows=rows)


def _parse_row(told: Mapping[str, Any]) -> SavedRow:
    return SavedRow(
        unit=told["unit"],
        evenflow=Summary(**told["evenflow"]),
        peers={key: Summary(**one) for key, one in told["peers"].items()},
        ratios={key: Summary(**one) for key, one in told["ratios"].items()},
        goals=tuple(SavedGoal(**one) for one in told["goals"]),
    )


def read(path: Path) -> list[SavedRun]:
    """Every saved run, oldest first; none where there is no file."""
    return [parse(line) for line in path.read_text().splitlines() if line] if path.exists() else []


def append(path: Path, run: SavedRun) -> None:
    """Add a line."""
    with path.open("a") as file:
        file.write(as_line(run) + "\n")


def like(runs: Iterable[SavedRun], now: SavedRun) -> list[SavedRun]:
    """Those to compare with, oldest first: whole runs on a machine like this one, of a fleet with the same settings."""

    def is_like(then: SavedRun) -> bool:
        same_machine = all(_is_alike(name, then.machine[name], now.machine[name]) for name in IDENTITY)
        return same_machine and then.up == now.up and not then.is_quick

    return [then for then in runs if is_like(then)][-MAX_BACK:]


def _is_alike(name: str, then: Any, now: Any) -> bool:
    if name == "memory_mib":
        return bool(abs(then - now) <= MEMORY_TOLERANCE * max(then, now))
    return bool(then == now)


def middle(runs: Sequence[SavedRun]) -> dict[str, SavedRow]:
    """Each row as it was in the middle of these runs, by its own median; each ratio likewise."""
    found: dict[str, SavedRow] = {}
    for measure in dict.fromkeys(measure for run in runs for measure in run.rows):
        rows = [run.rows[measure] for run in runs if measure in run.rows]
        rows = [row for row in rows if row.unit == rows[-1].unit]
        ratios = {
            key: _middle([row.ratios[key] for row in rows if key in row.ratios])
            for key in dict.fromkeys(key for row in rows for key in row.ratios)
        }
        found[measure] = SavedRow(rows[-1].unit, _middle([row.evenflow for row in rows]), {}, ratios, ())
    return found


def _middle(found: Sequence[Summary]) -> Summary:
    return sorted(found, key=lambda one: one.median)[len(found) // 2]
