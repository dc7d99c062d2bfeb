"""The table on the terminal and the report in docs/reliability."""

import json
from pathlib import Path
from typing import Any

from loadtest.bench import machine
from tests.faults.power_loss.replay import fast_folder
from tests.faults.power_loss.rows import STEPS, Row

FOLDER = Path(__file__).parents[3] / "docs" / "reliability"
_HEADINGS = ("node", "states", "bad", "accepted", "lost", "undone", "corrupt", "verdict", "seconds", "CPU s")
_PROSE = """# Power loss

Written by `make crash SAVE=1`. A queue node runs under a preload library that records every write, truncation, sync
and change of a name below its data folder. A client marks in the same log what it sends and what was answered. Each
recording has three runs of the node: from an empty disk to an orderly end; a further shard made under load, then a
crash in the middle of everything; recovery, and what was left open sent again. At the end of each run the replayed disk
is compared with the real one, byte by byte. From the log the disk is built as a power cut leaves it:

- **all**: every write up to the cut is there;
- **dropped**: only what an fsync or fdatasync of the file (and for names, of the folder) made durable;
- **torn**: that, and a random part of the 512-byte sectors and of the names that were not synced;
- **missing**: all writes, but one shard's file is gone, which must be noticed.

Each disk is opened by the code that opens it in the product. A state is bad when

- *corrupt*: `integrity_check` finds something, a shard is quarantined, a payload is damaged, an event is there twice or
  was never sent;
- *lost*: an accepted event is gone, or ended though nobody who had it said so, or a stored handover is missing;
- *undone*: a settled event is back.

The counts are of events over all states; *seconds* are of the wall clock, on a machine that others may have used too,
*CPU s* those of all processes. The other rows are nodes that break one promise each; the harness must catch every one.
"""


def table(rows: list[Row]) -> str:
    """Columns of the terminal."""
    lines = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def facts(rows: list[Row], command: str) -> dict[str, Any]:
    """Everything, for the JSON."""
    return {
        "command": command,
        "machine": machine.describe_host(fast_folder()),
        "steps": STEPS,
        "rows": [
            {
                "node": row.plan.name,
                "breaks": row.plan.breaks,
                "seeds": row.plan.seeds,
                "states": dict(sorted(row.tally.states.items())),
                "bad_states": row.tally.bad_states,
                "recorded": dict(row.calls),
                "answered": dict(row.answered),
                "accepted": row.accepted,
                "lost": row.tally.lost,
                "undone": row.tally.undone,
                "corrupt": row.tally.corrupt,
                "samples": row.tally.samples,
                "verdict": row.verdict,
                "seconds": round(row.seconds, 1),
                "cpu_seconds": round(row.cpu_seconds, 1),
            }
            for row in rows
        ],
    }


def save(rows: list[Row], command: str, folder: Path = FOLDER) -> None:
    """Write power_loss.json and power_loss.md."""
    folder.mkdir(parents=True, exist_ok=True)
    found = facts(rows, command)
    (folder / "power_loss.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "power_loss.md").write_text(_markdown(rows, found))


def _markdown(rows: list[Row], found: dict[str, Any]) -> str:
    lines = [
        _PROSE,
        f"{machine.in_words(found['machine'])}. `{found['command']}`",
        "",
        "| " + " | ".join((*_HEADINGS, "seeds", "breaks")) + " |",
        "|---" * (len(_HEADINGS) + 2) + "|",
    ]
    for row in rows:
        seeds = f"{row.plan.seeds[0]} to {row.plan.seeds[-1]}"
        lines.append("| " + " | ".join((*_cells(row), seeds, row.plan.breaks or "nothing")) + " |")
    for row in rows:
        if not row.plan.mutant:
            models = ", ".join(f"{count:,} {model}" for model, count in sorted(row.tally.states.items()))
            calls = ", ".join(f"{count:,} {kind.lower()}" for kind, count in row.calls.most_common())
            lines += ["", f"{row.plan.name}: states {models}; recorded {calls}."]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    tally = row.tally
    counts = (row.states, tally.bad_states, row.accepted, tally.lost, tally.undone, tally.corrupt)
    return (
        row.plan.name,
        *(f"{count:,}" for count in counts),
        row.verdict,
        f"{row.seconds:.0f}",
        f"{row.cpu_seconds:.0f}",
    )
