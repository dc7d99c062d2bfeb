"""Huey as its consumer loads it: a SQLite file with fsync, no results kept."""

import os
from typing import Any, cast

from huey.api import SqliteHuey

from loadtest.bench import ticks

FILE_VARIABLE = "BENCH_HUEY_FILE"


def make_huey(filename: str) -> tuple[Any, Any]:
    """A Huey on this file and its registered handler."""
    # Huey ships no types.
    made = cast(Any, SqliteHuey)(filename=filename, fsync=True, results=False)
    return made, made.task(name="noop")(noop)


def noop(payload: str) -> None:
    """The measured handler."""
    ticks.mark()


if FILE_VARIABLE in os.environ:
    huey, _ = make_huey(os.environ[FILE_VARIABLE])
