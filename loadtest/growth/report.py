"""What came out on little and on much, judged against the goals of the design's performance page; pure."""

from dataclasses import dataclass
from typing import Any

from loadtest.bench.results import Results
from loadtest.bench.stats import shown, summarize

FORMAT = 1
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One measure on both. `least_ratio`: much over little; `most_growth`: much less little; `most`: much."""

    measure: str
    title: str
    unit: str
    least_ratio: float | None = None
    most_growth: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What stands beside what. `little`, `much`: under which contestants the figures are kept."""

    title: str
    prose: tuple[str, ...]
    little: str
    much: str
    rows: tuple[Row, ...]


def add_memory(results: Results, measure: str, contestant: str, size_bytes: int | None) -> None:
    """A process's memory in MiB; a note, and no figure, when it could not be read (None): it is not 0."""
    if size_bytes is None:
        results.notes.append(f"{measure}, {contestant}: not measured, it could not be read (run as root)")
    else:
        results.add(measure, contestant, size_bytes / MIB)


def judge(row: Row, little: float | None, much: float | None) -> tuple[str, str]:
    """(goal, verdict) in words; empty without a goal."""
    if much is None or (little is None and row.most is None):
        goals = (row.least_ratio, row.most_growth, row.most)
        return ("", "not measured") if any(goal is not None for goal in goals) else ("", "")
    if row.least_ratio is not None and little:
        return f">= {row.least_ratio:g}x", "met" if much / little >= row.least_ratio else "missed"
    if row.most_growth is not None and little is not None:
        return f"grows <= {row.most_growth:g} {row.unit}", "met" if much - little <= row.most_growth else "missed"
    if row.most is not None:
        return f"<= {row.most:g} {row.unit}", "met" if much <= row.most else "missed"
    return "", ""


def lines(comparison: Comparison, results: Results) -> list[tuple[str, ...]]:
    """Of the table: title, unit, little, much, much over little, goal, verdict."""
    found = []
    for row in comparison.rows:
        series = [results.find(row.measure, one) for one in (comparison.little, comparison.much)]
        little, much = (one.summary.median if one is not None else None for one in series)
        if much is None and little is None and not judge(row, little, much)[1]:
            continue
        cells = [_cell(one.values) if one is not None else "-" for one in series]
        ratio = f"{much / little:.2f}x" if little and much is not None else "-"
        found.append((row.title, row.unit, *cells, ratio, *judge(row, little, much)))
    return found


def as_json(comparison: Comparison, results: Results, machine: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    measures = {}
    for row in comparison.rows:
        for one in (comparison.little, comparison.much):
            series = results.find(row.measure, one)
            if series is not None:
                measures[f"{row.measure}/{one}"] = {
                    "median": series.summary.median,
                    "values": series.values,
                    "cpu_us_per_event": series.cpu_us_medians,
                }
    names = ("what", "unit", comparison.little, comparison.much, "ratio", "goal", "verdict")
    return {
        "format": FORMAT,
        "machine": machine,
        "run": run,
        "rows": [dict(zip(names, line, strict=True)) for line in lines(comparison, results)],
        "measures": measures,
        "notes": results.notes,
    }


def as_markdown(comparison: Comparison, results: Results, about: str) -> str:
    """The page."""
    told = [
        f"# {comparison.title}",
        "",
        *comparison.prose,
        "",
        about,
        "",
        f"| what | unit | {comparison.little} | {comparison.much} | ratio | goal |  |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join(line) + " |" for line in lines(comparison, results)),
        "",
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(told) + "\n"


def _cell(values: list[float]) -> str:
    summary = summarize(values)
    if summary.count == 1:
        return shown(summary.median)
    return f"{shown(summary.median)} ({shown(summary.low)} to {shown(summary.high)})"
