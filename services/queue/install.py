"""Puts another file in a shard's place, in steps that a crash anywhere only delays.

The new file is complete and synced before a note, `shard-NNNN.pending.json`, says that it is to be taken; from then on
whoever opens the shard finishes the rest. The old file is moved aside and kept. Only the owner of the shard's lock
calls this; the manifest is the node's, so its part is done when the node opens the shard.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from services.queue.paths import shard_path, sync_directory

if TYPE_CHECKING:
    from services.queue.identity import ShardRecord

SUFFIXES = ("", "-wal", "-shm", "-journal")
_FORMAT = 1


def fresh_path(directory: Path, shard_id: int) -> Path:
    """Where the new file is made."""
    return shard_path(directory, shard_id).with_suffix(".fresh")


def aside_path(directory: Path, shard_id: int, at: str) -> Path:
    """Where the old file goes; `at` is a time such as 20261125T194700Z."""
    return directory / f"shard-{shard_id:04d}.aside-{at}.db"


def stage(directory: Path, shard_id: int, record: "ShardRecord", at: str) -> None:
    """Take the fresh file from now on: the point of no return."""
    # Under a name of its own: an earlier note must never find this file in its place.
    staged = _staged_path(directory, shard_id, at)
    sync_file(fresh_path(directory, shard_id))
    fresh_path(directory, shard_id).replace(staged)
    sync_directory(directory)
    note = _note_path(directory, shard_id)
    written = note.with_suffix(".new")
    with open(written, "w") as file:
        json.dump({"format": _FORMAT, "at": at, "record": asdict(record)}, file)
        file.flush()
        os.fsync(file.fileno())
    written.replace(note)
    sync_directory(directory)


def read_note(directory: Path, shard_id: int) -> dict[str, object] | None:
    """The record of a file that is to be taken; None: there is none. ValueError: the note is unreadable."""
    found = _read(directory, shard_id)
    return found[0] if found is not None else None


def finish_files(directory: Path, shard_id: int) -> dict[str, object] | None:
    """Move the old file aside and the new one in; the new record, or None: nothing staged. ValueError: a bad note."""
    found = _read(directory, shard_id)
    if found is None:
        return None
    record, at = found
    fresh, path = _staged_path(directory, shard_id, at), shard_path(directory, shard_id)
    if fresh.exists():
        aside = aside_path(directory, shard_id, at)
        for suffix in SUFFIXES:
            old = Path(f"{path}{suffix}")
            if old.exists():
                old.replace(f"{aside}{suffix}")
        sync_directory(directory)
        fresh.replace(path)
        sync_directory(directory)
    return record


def clear_fresh(directory: Path, shard_id: int) -> Path:
    """Where a new file may be made, after what an earlier try left is gone."""
    for left in directory.glob(f"shard-{shard_id:04d}*.fresh*"):
        left.unlink()
    return fresh_path(directory, shard_id)


def done(directory: Path, shard_id: int) -> None:
    """The manifest has the new record: forget the note."""
    _note_path(directory, shard_id).unlink(missing_ok=True)
    sync_directory(directory)


def sync_file(path: Path) -> None:
    """Make the file's contents durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(directory: Path, shard_id: int) -> tuple[dict[str, object], str] | None:
    note = _note_path(directory, shard_id)
    try:
        found = json.loads(note.read_text())
        if found["format"] != _FORMAT:
            raise ValueError(f"format {found['format']}")
        return dict(found["record"]), str(found["at"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{note.name} is unreadable ({e}): move it aside and repair the shard again") from e


def _staged_path(directory: Path, shard_id: int, at: str) -> Path:
    return directory / f"shard-{shard_id:04d}-{at}.fresh"


def _note_path(directory: Path, shard_id: int) -> Path:
    return shard_path(directory, shard_id).with_suffix(".pending.json")
