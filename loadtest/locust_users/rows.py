"""Rows of Locust's tables that are no requests: they stand beside them, and outside its total of all requests."""

from typing import Any

from locust.stats import StatsError

DWELL = "DWELL"
TO_START = "accept to start"
TO_SETTLED = "accept to settled"
OPEN = "OPEN"
LATE = "late"
DROPPED = "dropped"
VOID = "void"


def note(stats: Any, kind: str, name: str, took_ms: float) -> None:
    """One measured time of a row."""
    stats.get(name, kind).log(took_ms, 0)


def note_failure(stats: Any, kind: str, name: str, message: str) -> None:
    """One failure of a row; it stands among the failures, too."""
    entry = stats.get(name, kind)
    entry.log(None, 0)
    entry.log_error(message)
    key = StatsError.create_key(kind, name, message)
    if key not in stats.errors:
        stats.errors[key] = StatsError(kind, name, message)
    stats.errors[key].occurred()
