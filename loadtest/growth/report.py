"""What came out on little and on much, judged against the goals of the design's performance page; pure."""

from dataclasses import dataclass
from typing import Any

from loadtest.bench.results import Results
from loadtest.bench.stats import shown, summarize

FORMAT = 1


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


def judge(row: Row, little: float | None, much: float) -> tuple[str, str]:
    """(goal, verdict) in words; empty without a goal."""
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
        if much is None:
            continue
        cells = [_cell(one.values) if one is not None else "-" for one in series]
        ratio = f"{much / little:.2f}x" if little else "-"
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
