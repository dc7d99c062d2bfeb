"""The catalogue: one JSON line a recording in `catalogue.jsonl`, and the same as a table in `catalogue.md`.

The lines are the truth; the table is made from them anew each time. Each file is replaced whole, under a
lock, so that a reader never meets half a line and indexers at work at the same time never lose one another's
lines.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LINES_NAME = "catalogue.jsonl"
TABLE_NAME = "catalogue.md"
LOCK_NAME = ".catalogue.lock"
MAX_CATALOGUE_BYTES = 8 * 1024 * 1024
"""Largest catalogue, some 20,000 recordings: each addition reads and writes it whole."""

_TABLE_HEAD = "| Title | Duration | Loudness | Audio | Waveform |\n| --- | ---: | ---: | --- | --- |\n"


class CatalogueFull(RuntimeError):
    """The catalogue would grow past `MAX_CATALOGUE_BYTES`."""


class CatalogueBroken(RuntimeError):
    """The catalogue holds a line that is no JSON object; nothing was changed."""


def add_entries(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add entries that the catalogue does not hold yet, and return each as it stands there now.

    An entry is known by its `request_id` and its audio's key: the same ones again change nothing, and the
    first ones are returned. Raises `CatalogueFull` or `CatalogueBroken`; then nothing was changed.
    """
    with _locked(folder / LOCK_NAME):
        lines = _read(folder / LINES_NAME)
        known = {_identity(line): line for line in lines}
        stored = []
        for entry in entries:
            line = known.setdefault(_identity(entry), dict(entry))
            stored.append(line)
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in known.values()).encode()
        if len(content) > MAX_CATALOGUE_BYTES:
            raise CatalogueFull(f"{LINES_NAME} would pass {MAX_CATALOGUE_BYTES} bytes: move it away to begin a new one")
        if len(known) > len(lines):
            _replace(folder / LINES_NAME, content)
        # Also for a repeat: the attempt before may have died between the two files.
        _replace(folder / TABLE_NAME, table(list(known.values())).encode())
    return stored


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the catalogue as a Markdown table, one row a recording."""
    return _TABLE_HEAD + "".join(
        f"| {_cell(line['title'])} | {line['duration_seconds']:.1f} s | {_loudness(line['loudness_lufs'])} "
        f"| {_cell(line['audio']['key'])} | {_cell(line['picture']['key'])} |\n"
        for line in lines
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


def _loudness(loudness_lufs: float | None) -> str:
    return "silent" if loudness_lufs is None else f"{loudness_lufs:.1f} LUFS"


def _identity(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["request_id"], entry["audio"]["key"]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file's lock, waiting for it as long as the function's own time limit lets it.

    The lock is on a file of its own since the catalogue is replaced, and a lock would stay with the file
    replaced. The kernel frees it when its holder dies, however it dies.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    if path.stat().st_size > MAX_CATALOGUE_BYTES:
        raise CatalogueFull(f"{path.name} is past {MAX_CATALOGUE_BYTES} bytes: move it away to begin a new one")
    lines = []
    # Not splitlines(): titles may hold U+2028 and its like, which JSON leaves as they are.
    for number, text in enumerate(path.read_text("utf-8").split("\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            _identity(line)
        except (ValueError, KeyError, TypeError) as error:
            raise CatalogueBroken(f"line {number} of {path.name} is no catalogue line: mend or remove it") from error
        lines.append(line)
    return lines


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.parent / f".unfinished-{secrets.token_hex(8)}"
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
