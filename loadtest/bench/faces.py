"""The table in a terminal and as Markdown."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bench.goals import Verdict
from loadtest.bench.history import SavedRow, SavedRun
from loadtest.bench.machine import in_words
from loadtest.bench.report import HEADINGS, Line
from loadtest.bench.rows import PEERS, ROWS
from loadtest.bench.stats import shown

# When the output is no terminal: wide enough that no cell breaks.
PLAIN_WIDTH = 230
_STYLES = {"met": "green", "missed": "bold red", "not measured": "dim", "regression": "bold red", "better": "green"}
# Of the history: as many columns as fit.
MAX_RUNS_SHOWN = 6
EXIT_REGRESSION = 3


def print_table(lines: list[Line], cpu: list[str], notes: list[str], machine: dict[str, Any]) -> None:
    """The table, then what it needs to be understood."""
    console = Console() if Console().is_terminal else Console(width=PLAIN_WIDTH)
    table = Table(title="Evenflow beside its peers: medians (lowest to highest)", show_lines=True)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if 2 <= number <= 2 + len(PEERS) else "left")
    for line in lines:
        words = Text("\n").join(Text(word, _STYLES[word]) for word in line.words)
        style = next((style for word, style in _STYLES.items() if word in line.change), "")
        table.add_row(*line.cells[:-2], words, Text(line.change, style))
    console.print(table)
    for heading, said in (("CPU, microseconds an event by service", cpu), ("Notes", notes)):
        if said:
            console.print(f"\n[bold]{heading}[/bold]")
            for one in said:
                console.print(f"- {one}", highlight=False, markup=False)
    console.print(f"\n{_about(machine)}", highlight=False, markup=False)


def print_history(runs: Sequence[SavedRun]) -> None:
    """Every row over the last saved runs: Evenflow's median, and what each goal's ratio and verdict were then."""
    console = Console() if Console().is_terminal else Console(width=PLAIN_WIDTH)
    table = Table(title="Saved runs, oldest first", show_lines=True)
    table.add_column("what")
    table.add_column("unit")
    shown_runs = runs[-MAX_RUNS_SHOWN:]
    for run in shown_runs:
        about = run.machine
        kind = "quick, " if run.is_quick else ""
        heading = f"{run.time}\n{run.commit}\n{kind}{about['cpu']}, {about['cores']} cores"
        table.add_column(heading, justify="right")
    for row in ROWS:
        cells = [_saved_cell(run.rows.get(row.measure)) for run in shown_runs]
        table.add_row(row.title, row.unit, *cells)
    console.print(table)


def _saved_cell(row: SavedRow | None) -> Text:
    if row is None:
        return Text("-")
    told = Text(shown(row.evenflow.median))
    for goal in row.goals:
        word = Verdict(goal.ratio, goal.met).word
        told.append("\n" + (f"{goal.ratio:.2f}x " if goal.ratio is not None else ""))
        told.append(word, _STYLES[word])
    return told


def as_markdown(lines: list[Line], cpu: list[str], notes: list[str], machine: dict[str, Any]) -> str:
    """The same as a page."""
    told = [
        "# Benchmarks",
        "",
        "Written by `make bench SAVE=1`. Medians (lowest to highest) of one interleaved run on one machine: absolute",
        "figures move from machine to machine, ratios less. A ratio is Evenflow's figure over the best peer's named.",
        "",
        _about(machine),
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    told += ["| " + " | ".join(cell.replace("\n", "<br>") for cell in line.cells) + " |" for line in lines]
    for heading, said in (("CPU, microseconds an event by service", cpu), ("Notes", notes)):
        if said:
            told += ["", f"## {heading}", "", *(f"- {one}" for one in said)]
    return "\n".join(told) + "\n"


def _about(machine: dict[str, Any]) -> str:
    return (
        f"{in_words(machine)}; Huey {machine['huey_version']} (SQLite {machine['huey_sqlite']}), "
        f"Redis: {machine['redis']}, taskiq {machine['taskiq_version']}, "
        f"Celery {machine['celery_version']}, NATS: {machine['nats']}, nats-py {machine['nats_py_version']}"
    )


def conclude(worse: list[str], *, is_quick: bool) -> int:
    """The exit code; regressions are told line by line. A quick run's are told only: it is too short to fail by."""
    for title in worse:
        print(f"REGRESSION: {title}", file=sys.stderr, flush=True)
    return EXIT_REGRESSION if worse and not is_quick else 0
