"""The figures as JSON, and as lines of a table that both faces (terminal, Markdown) print."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loadtest.bench import goals
from loadtest.bench.regression import Change
from loadtest.bench.results import Results, Series
from loadtest.bench.rows import EVENFLOW, NAMES, PEERS, ROWS, Row
from loadtest.bench.stats import shown

FORMAT = 1
HEADINGS = ("what", "unit", "Evenflow", *(NAMES[key] for key in PEERS), "ratio", "goal", "", "change")
ABSENT = "-"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table, as text. `words`: met, missed or not measured, one a goal; `change`: since a saved run."""

    cells: tuple[str, ...]
    words: tuple[str, ...]
    change: str


def lines(results: Results, changes: Mapping[str, Change]) -> list[Line]:
    """Every row that was measured. `changes`: by measure."""
    found = []
    for row in ROWS:
        series = results.find(row.measure, EVENFLOW)
        if series is not None:
            change = changes.get(row.measure)
            found.append(_line(row, series, results, change.text() if change else ABSENT))
    return found


def cpu_lines(results: Results) -> list[str]:
    """For each rate: where the CPU went, microseconds an event, and the load generator's share of a core."""
    found = []
    for row in ROWS:
        series = results.find(row.measure, EVENFLOW)
        if series is None or series.generator_cpu_median is None:
            continue
        spent = ", ".join(f"{name} {us:.1f}" for name, us in series.cpu_us_medians.items() if us >= 0.05)
        found.append(f"{row.title}: {spent}; generator at {series.generator_cpu_median:.0f} % of a core")
    for measure in ("accept", "end_to_end"):
        shares = ((key, results.find(measure, key)) for key in PEERS)
        said = [f"{NAMES[key]} {s.generator_cpu_median:.0f} %" for key, s in shares if s and s.generator_cpu_median]
        if said:
            found.append(f"peers' {measure.replace('_', ' ')}, caller's share of a core: {', '.join(said)}")
    return found


def as_json(results: Results, machine: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "format": FORMAT,
        "machine": machine,
        "run": run,
        "rows": [_row_json(row, results) for row in ROWS if results.find(row.measure, EVENFLOW)],
        "peers": {
            f"{measure}/{key}": _series_json(series)
            for measure in ("accept", "end_to_end", "idle_p50", "idle_p99")
            for key in PEERS
            if (series := results.find(measure, key))
        },
        "notes": results.notes,
    }


def _line(row: Row, series: Series, results: Results, change: str) -> Line:
    peers = results.medians(row.peer_measure, row.peers)
    verdicts = [goals.judge(goal, series.summary.median, peers) for goal in row.goals]
    ratios = "\n".join(f"{v.ratio:.2f}x" if v.ratio is not None else ABSENT for v in verdicts if row.goals)
    cells = (
        row.title,
        row.unit,
        _cell(series),
        *(_cell(results.find(row.peer_measure, key) if key in row.peers else None) for key in PEERS),
        ratios or ABSENT,
        "\n".join(goal.text(row.unit, NAMES) for goal in row.goals) or ABSENT,
        "\n".join(verdict.word for verdict in verdicts),
        change,
    )
    return Line(cells, tuple(verdict.word for verdict in verdicts), change)


def _cell(series: Series | None) -> str:
    if series is None:
        return ABSENT
    summary = series.summary
    if summary.count == 1:
        return shown(summary.median)
    return f"{shown(summary.median)}\n({shown(summary.low)} to {shown(summary.high)})"


def _row_json(row: Row, results: Results) -> dict[str, Any]:
    series = results.find(row.measure, EVENFLOW)
    assert series is not None
    peers = results.medians(row.peer_measure, row.peers)
    judged = []
    for goal in row.goals:
        verdict = goals.judge(goal, series.summary.median, peers)
        judged.append({"goal": goal.text(row.unit, NAMES), "ratio": verdict.ratio, "met": verdict.is_met})
    return {
        "measure": row.measure,
        "title": row.title,
        "unit": row.unit,
        **_series_json(series),
        "peers": peers,
        "goals": judged,
    }


def _series_json(series: Series) -> dict[str, Any]:
    summary = series.summary
    found: dict[str, Any] = {
        "median": summary.median,
        "low": summary.low,
        "high": summary.high,
        "values": series.values,
    }
    if series.generator_cpu_median is not None:
        found["generator_cpu_percent"] = series.generator_cpu_median
    if series.cpu_us_per_event:
        found["cpu_us_per_event"] = series.cpu_us_medians
    return found
