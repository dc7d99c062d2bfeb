"""The table in a terminal and as Markdown."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from loadtest.bench.machine import in_words
from loadtest.bench.report import HEADINGS, Line

# When the output is no terminal: wide enough that no cell breaks.
PLAIN_WIDTH = 230
_STYLES = {"met": "green", "missed": "bold red", "not measured": "dim"}


def print_table(lines: list[Line], cpu: list[str], notes: list[str], machine: dict[str, Any]) -> None:
    """The table, then what it needs to be understood."""
    console = Console() if Console().is_terminal else Console(width=PLAIN_WIDTH)
    table = Table(title="Evenflow beside its peers: medians (lowest to highest)", show_lines=True)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number < 2 or number > 6 else "right")
    for line in lines:
        words = Text("\n").join(Text(word, _STYLES[word]) for word in line.words)
        table.add_row(*line.cells[:-1], words)
    console.print(table)
    for heading, said in (("CPU, microseconds an event by service", cpu), ("Notes", notes)):
        if said:
            console.print(f"\n[bold]{heading}[/bold]")
            for one in said:
                console.print(f"- {one}", highlight=False, markup=False)
    console.print(f"\n{_about(machine)}", highlight=False, markup=False)


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
