"""What came out, judged against the goals of the design's performance page."""

from dataclasses import dataclass
from typing import Any

from loadtest.bench.results import Results
from loadtest.bench.stats import shown
from loadtest.growth.scenario import DEEP, SHALLOW

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One measure at both depths. `least_ratio`: deep over shallow; `most_growth`: deep less shallow; `most`: deep."""

    measure: str
    title: str
    unit: str
    least_ratio: float | None = None
    most_growth: float | None = None
    most: float | None = None


ROWS = (
    Row("depth", "events in the queue node, delayed ones included", "events"),
    Row("accept", "accept at the node, batches of 100", "events/s", least_ratio=0.8),
    Row("drain", "lease + ack of the backlog at the node", "events/s", least_ratio=0.8),
    Row("end_to_end", "another function end to end, batches of 100", "events/s", least_ratio=0.8),
    Row("start_p50", "another function's event, submit to handler start, p50", "ms"),
    Row("start_p99", "the same, p99", "ms", most=20.0),
    Row("start_max", "the same, highest", "ms"),
    Row("memory", "memory of the queue node (PSS)", "MiB", most_growth=300.0),
    Row("expiry_late_ms", "events of a paused function ended after their age, the latest", "ms"),
    Row("restart_seconds", "queue node killed until all shards serve", "s"),
)


def judge(row: Row, shallow: float | None, deep: float) -> tuple[str, str]:
    """(goal, verdict) in words; empty without a goal."""
    if row.least_ratio is not None and shallow:
        return f">= {row.least_ratio:g}x", "met" if deep / shallow >= row.least_ratio else "missed"
    if row.most_growth is not None and shallow is not None:
        return f"grows <= {row.most_growth:g} {row.unit}", "met" if deep - shallow <= row.most_growth else "missed"
    if row.most is not None:
        return f"<= {row.most:g} {row.unit}", "met" if deep <= row.most else "missed"
    return "", ""


def lines(results: Results) -> list[tuple[str, ...]]:
    """Of the table: title, unit, shallow, deep, deep over shallow, goal, verdict."""
    found = []
    for row in ROWS:
        series = [results.find(row.measure, depth) for depth in (SHALLOW, DEEP)]
        medians = [one.summary.median if one is not None else None for one in series]
        shallow, deep = medians
        if deep is None:
            continue
        cells = [_cell(one.values) if one is not None else "-" for one in series]
        ratio = f"{deep / shallow:.2f}x" if shallow else "-"
        found.append((row.title, row.unit, *cells, ratio, *judge(row, shallow, deep)))
    return found


def as_json(results: Results, machine: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    measures = {}
    for row in ROWS:
        for depth in (SHALLOW, DEEP):
            series = results.find(row.measure, depth)
            if series is not None:
                measures[f"{row.measure}/{depth}"] = {
                    "median": series.summary.median,
                    "values": series.values,
                    "cpu_us_per_event": series.cpu_us_medians,
                }
    rows = [dict(zip(("what", "unit", SHALLOW, DEEP, "ratio", "goal", "verdict"), line)) for line in lines(results)]  # noqa: B905
    return {
        "format": FORMAT,
        "machine": machine,
        "run": run,
        "rows": rows,
        "measures": measures,
        "notes": results.notes,
    }


def as_markdown(results: Results, about: str) -> str:
    """The page."""
    told = [
        "# Growth: a deep backlog beside a shallow one",
        "",
        "Written by `make growth SAVE=1`. One fleet (`evenflow up`, 8 shards, one queue node); medians (lowest to",
        "highest). The backlog belongs to paused functions; the other function and the client run beside it.",
        "",
        about,
        "",
        "| what | unit | shallow | deep | ratio | goal |  |",
        "|---|---|---|---|---|---|---|",
        *("| " + " | ".join(line) + " |" for line in lines(results)),
        "",
        *(f"- {note}" for note in results.notes),
    ]
    return "\n".join(told) + "\n"


def _cell(values: list[float]) -> str:
    ordered = sorted(values)
    middle = shown(ordered[len(ordered) // 2]) if len(ordered) % 2 else shown(_median(ordered))
    return middle if len(ordered) == 1 else f"{middle} ({shown(ordered[0])} to {shown(ordered[-1])})"


def _median(ordered: list[float]) -> float:
    half = len(ordered) // 2
    return (ordered[half - 1] + ordered[half]) / 2
