"""The table on the terminal, the JSON, and the page in docs/reliability."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from loadtest.bench import machine
from tests.faults.matrix.cell import NOT_JUDGED, Result
from tests.faults.matrix.cells import CELLS, ELSEWHERE

FOLDER = Path(__file__).parents[3] / "docs" / "reliability"
NAME = "matrix"
# How the note of where logs were kept begins.
LOGS_NOTE = "logs: "
_COLUMNS = ("events", "acked", "lost", "unexpected", "duplicated", "recovered", "stale_accepted")
_WIDTH = 40
HEADING = f"{'fault':<{_WIDTH}}{'seed':>5}" + "".join(f"{name:>15}" for name in (*_COLUMNS, "recovery s", "verdict"))
_PROSE = """# The fault matrix

Written by `make faults SAVE=1`. A cell is a real fleet (one frontend, two queue nodes with 32 shards, two pollers, two
runtime hosts, control), a client outside of it that sends seeded events through both doors and logs what it was told,
and one fault in the middle. After a full drain the client's log is held against what the handlers noted and against
every shard's record of every event, as Jepsen's total-queue checker does it:

- **lost**: acknowledged, without exactly one record of its end; or counted as succeeded, or handed over, and no handler
  or destination saw it;
- **unexpected**: ran and was never sent, was refused, was stored twice, or carried other bytes;
- **duplicated**: succeeded more than once; a cell whose fault does not explain that may have none;
- **recovered**: ran though the client never heard of it;
- **stale accepted**: receipts of leases that were over, sent on purpose, and taken.

A cell is also broken by an event with more function errors than its retries allow, one that outlived its age, a process
that was left behind, a node that did not serve again in time, or whatever else the fault promises.

The cells that are named after a service alone, and the one of a million events, measure how soon a node serves again
at 100 events a second, with half of the machine free and nothing else on it; there it has a bound. In the others every
core is busy with the load (1,000 events a second, and cells beside each other): a start takes as long as its share.
"""


@dataclass(frozen=True)
class Piece:
    """A run that results are from: its command, and the machine as it was when it began."""

    command: str

    @cached_property
    def about(self) -> dict[str, Any]:
        """For the JSON."""
        return {"command": self.command, "machine": machine.describe_host(Path("/tmp"))}


@dataclass(slots=True)
class Saved:
    """What docs/reliability has: runs and, by place of the run that they are from, cells."""

    pieces: list[dict[str, Any]] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)

    def has(self, fault: str, seed: int, asked: int, mutant: str) -> bool:
        """Whether a cell is there already."""
        return any(_key(one) == (fault, seed, asked, mutant) for one in self.cells)

    def add(self, result: Result, piece: Piece) -> None:
        """Keep a result, in the place of an earlier one of the same cell."""
        if piece.about not in self.pieces:
            self.pieces.append(piece.about)
        # Where the logs of this run are says nothing to a reader of the page.
        notes = [note for note in result.notes if not note.startswith(LOGS_NOTE)]
        made = {**result.as_json(), "notes": notes, "piece": self.pieces.index(piece.about)}
        self.cells = [one for one in self.cells if _key(one) != _key(made)]
        self.cells.append(made)
        order = {name: place for place, name in enumerate(CELLS)}
        self.cells.sort(key=lambda one: (bool(one["mutant"]), order.get(one["fault"], 0), one["seed"]))


def load(folder: Path = FOLDER) -> Saved:
    """What was saved before."""
    path = folder / f"{NAME}.json"
    if not path.exists():
        return Saved()
    found = json.loads(path.read_text())
    return Saved(found["pieces"], found["cells"])


def save(saved: Saved, folder: Path = FOLDER) -> None:
    """Write matrix.json and matrix.md."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"pieces": saved.pieces, "cells": saved.cells, "elsewhere": ELSEWHERE}
    fresh = folder / f".{NAME}.json"
    fresh.write_text(json.dumps(kept, indent=1) + "\n")
    fresh.replace(folder / f"{NAME}.json")
    (folder / f"{NAME}.md").write_text(markdown(saved))


def as_json(results: Iterable[Result], piece: Piece) -> str:
    """One run, for a file that nobody keeps."""
    return json.dumps({**piece.about, "cells": [one.as_json() for one in results]}, indent=1) + "\n"


def line(result: Result) -> str:
    """One row of the terminal."""
    cells = (*(f"{getattr(result, name):,}" for name in _COLUMNS), _seconds(result.recovery_seconds), verdict(result))
    name = f"{result.fault}{result.mutant and f' / {result.mutant}'}"
    return f"{name:<{_WIDTH}}{result.seed:>5}" + "".join(f"{cell:>15}" for cell in cells)


def verdict(result: Result) -> str:
    """One word."""
    if result.skipped:
        return f"skipped: {result.skipped}"
    if result.mutant:
        return "missed" if result.holds else "caught"
    return "holds" if result.holds else "BROKEN"


def told(result: Result) -> list[str]:
    """What is to be said below the row of a result that somebody has to look at."""
    if not is_wrong(result):
        return []
    return [*(result.broken or ["the mutant was not caught"]), *(f"({note})" for note in result.notes)]


def is_wrong(result: Result) -> bool:
    """Whether somebody has to look: a broken cell, or a mutant that was not caught."""
    return not result.skipped and result.holds == bool(result.mutant)


def markdown(saved: Saved) -> str:
    """The page."""
    own = [one for one in saved.cells if not one["mutant"]]
    lines = [
        _PROSE,
        *(
            f"Run {number}: {machine.in_words(one['machine'])}. `{one['command']}`\n"
            for number, one in enumerate(saved.pieces)
        ),
        "Sums over the seeds; recovery: median and longest of seconds from a node's death until it serves again.",
        "",
        "| fault | seeds | run | " + " | ".join(_COLUMNS).replace("_", " ") + " | recovery s | verdict | promised |",
        "|---|---|---|" + "---:|" * (len(_COLUMNS) + 1) + "---|---|",
    ]
    for name in dict.fromkeys(one["fault"] for one in own):
        rows = [one for one in own if one["fault"] == name]
        lines.append(_summary(name, rows))
    broken = [f"- {one['fault']}, seed {one['seed']}: {words}" for one in own for words in one["broken"]]
    if broken:
        lines += ["", "## Broken", "", *broken]
    mutants = [one for one in saved.cells if one["mutant"]]
    if mutants:
        lines += ["", "## Services that break a promise", "", "Each has to be caught by its cell.", ""]
        lines += ["| mutant | cell | verdict | what gave it away |", "|---|---|---|---|"]
        for one in mutants:
            what = one["broken"][0] if one["broken"] else "nothing"
            lines.append(f"| {one['mutant']} | {one['fault']} | {'caught' if one['broken'] else 'MISSED'} | {what} |")
    notes = [f"- {one['fault']}, seed {one['seed']}: {'; '.join(one['notes'])}" for one in own if one["notes"]]
    lines += ["", "## What the faults were", "", *notes]
    lines += ["", "## In other suites", "", *(f"- {fault}: {where}" for fault, where in ELSEWHERE.items())]
    return "\n".join(lines) + "\n"


def _summary(name: str, rows: Sequence[dict[str, Any]]) -> str:
    sums = [f"{sum(row[column] for row in rows):,}" for column in _COLUMNS]
    seconds = [row["recovery_seconds"] for row in rows if row["recovery_seconds"] is not None]
    recovery = f"{statistics.median(seconds):.1f}, {max(seconds):.1f}" if seconds else "-"
    bad = [row["seed"] for row in rows if row["broken"]]
    skipped = next((row["skipped"] for row in rows if row["skipped"]), "")
    word = f"skipped: {skipped}" if skipped else f"broken: seeds {bad}" if bad else "holds"
    unjudged = [row["seed"] for row in rows if any(note.startswith(NOT_JUDGED) for note in row["notes"])]
    word += f"; delays of seeds {unjudged} not judged" if unjudged else ""
    seeds = ", ".join(str(row["seed"]) for row in rows)
    runs = ", ".join(str(piece) for piece in sorted({row["piece"] for row in rows}))
    promised = CELLS[name].expected if name in CELLS else "-"
    return "| " + " | ".join((name, seeds, runs, *sums, recovery, word, promised)) + " |"


def _key(one: dict[str, Any]) -> tuple[str, int, int, str]:
    return one["fault"], one["seed"], one["asked"], one["mutant"]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
