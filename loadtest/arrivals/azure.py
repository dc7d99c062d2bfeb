"""Replays the public traces of Azure Functions, compressed in time and scaled to a rate.

2019 ("Serverless in the Wild", Shahrad et al., ATC 2020): `HashOwner,HashApp,HashFunction,Trigger,1,2,..,1440`, the
invocations of each function in each minute of a day. 2021 (Zhang et al., SOSP 2021): `app,func,end_timestamp,duration`,
one invocation a line, in seconds.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals import arrivals
from loadtest.arrivals.arrivals import MAX_ARRIVALS, Arrivals, TooMany
from loadtest.workloads.work import MAX_WORK_MS

MINUTES = 1_440
HEAD_2019 = ("HashOwner", "HashApp", "HashFunction", "Trigger")
HEAD_2021 = ("app", "func", "end_timestamp", "duration")
# 6 KB each in memory (2019).
MAX_OWNERS = 50_000
MAX_COUNT = 2**31
# 2021, where the trace has fewer invocations than are asked for: how far copies are moved apart, in its own time.
_JITTER_SECONDS = 1.0


class BadTrace(ValueError):
    """The file is no such trace; the message names the file, the line and what is wrong."""


def replay(path: Path, seconds: float, per_second: float, seed: str, tenants: int) -> Arrivals:
    """So many seconds at this mean rate, shaped as the whole trace is.

    The trace's owners (2021: apps) are tenants, those with most events first; beyond `tenants` of them, they share the
    tenants in turn. 2019: handlers do nothing; 2021: each is busy as long as the trace says, at most MAX_WORK_MS.
    BadTrace: not such a file; TooMany; OSError: it cannot be read.
    """
    if seconds <= 0 or per_second <= 0 or tenants < 1:
        raise ValueError("a replay needs seconds, a rate and tenants above 0")
    events = round(seconds * per_second)
    if events > MAX_ARRIVALS:
        raise TooMany(f"{events:,} arrivals; one schedule holds {MAX_ARRIVALS:,}: fewer seconds or a lower rate")
    draw = np.random.default_rng(list(f"azure {seed}".encode()))
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        head = tuple(name.strip() for name in _first(path, rows))
        if head == (*HEAD_2019, *map(str, range(1, MINUTES + 1))):
            return _of_2019(path, rows, seconds, events, draw, tenants)
        if head == HEAD_2021:
            return _of_2021(path, rows, seconds, events, draw, tenants)
    raise BadTrace(
        f"{path}:1: the first line is neither `{','.join(HEAD_2019)},1,..,{MINUTES}` (Azure Functions 2019) "
        f"nor `{','.join(HEAD_2021)}` (2021)"
    )


def _first(path: Path, rows: Iterator[list[str]]) -> Sequence[str]:
    """BadTrace: there is no line, or it is no text."""
    try:
        row = next(rows, None)
    except (csv.Error, UnicodeDecodeError):
        raise BadTrace(f"{path}:1: this is no text of comma-separated values: unpack it first?") from None
    if row is None:
        raise BadTrace(f"{path}: the file is empty")
    return row


def _of_2019(
    path: Path, rows: Iterator[list[str]], seconds: float, events: int, draw: np.random.Generator, tenants: int
) -> Arrivals:
    counts: dict[str, NDArray[np.int64]] = {}
    for line, row in _lines(path, rows, len(HEAD_2019) + MINUTES):
        try:
            found = np.array([int(one or 0) for one in row[len(HEAD_2019) :]], dtype=np.int64)
        except (ValueError, OverflowError):
            raise BadTrace(f"{path}:{line}: counts of a minute are whole numbers") from None
        if found.min() < 0 or found.max() > MAX_COUNT:
            raise BadTrace(f"{path}:{line}: counts of a minute are 0 to {MAX_COUNT:,}")
        owner = row[0]
        if owner in counts:
            counts[owner] += found
        elif len(counts) >= MAX_OWNERS:
            raise BadTrace(f"{path}:{line}: more than {MAX_OWNERS:,} owners")
        else:
            counts[owner] = found
    if not counts or not any(one.any() for one in counts.values()):
        raise BadTrace(f"{path}: no invocations")
    ordered = sorted(counts.values(), key=lambda one: -int(one.sum()))
    # The cell (owner, minute) of each event, drawn by its count; then a moment within its minute.
    reached = np.cumsum(np.concatenate(ordered))
    cells = np.searchsorted(reached, draw.integers(0, reached[-1], events), side="right")
    at_seconds = (cells % MINUTES + draw.random(events)) * (seconds / MINUTES)
    return arrivals.make(seconds, _inside(at_seconds, seconds), (cells // MINUTES % tenants).astype(np.int32))


def _of_2021(
    path: Path, rows: Iterator[list[str]], seconds: float, events: int, draw: np.random.Generator, tenants: int
) -> Arrivals:
    apps: dict[str, int] = {}
    senders: list[int] = []
    starts: list[float] = []
    durations: list[float] = []
    for line, row in _lines(path, rows, len(HEAD_2021)):
        try:
            end, duration = float(row[2]), float(row[3])
        except ValueError:
            raise BadTrace(f"{path}:{line}: end_timestamp and duration are seconds") from None
        if not (np.isfinite(end) and np.isfinite(duration) and duration >= 0):
            raise BadTrace(f"{path}:{line}: end_timestamp is a moment and duration at least 0")
        if len(starts) >= MAX_ARRIVALS:
            raise BadTrace(f"{path}:{line}: more than {MAX_ARRIVALS:,} invocations")
        senders.append(apps.setdefault(row[0], len(apps)))
        starts.append(end - duration)
        durations.append(duration)
    if not starts:
        raise BadTrace(f"{path}: no invocations")
    by_app = np.array(senders)
    rank = np.empty(len(apps), dtype=np.int64)
    rank[np.argsort(-np.bincount(by_app), kind="stable")] = np.arange(len(apps))
    begun = np.array(starts) - min(starts)
    span = max(float(begun.max()), _JITTER_SECONDS)
    chosen = draw.choice(len(begun), events, replace=events > len(begun))
    moved = begun[chosen]
    if events > len(begun):
        moved = np.minimum(moved + draw.random(events) * _JITTER_SECONDS, span)
    work_ms = np.minimum(np.array(durations)[chosen] * 1e3, MAX_WORK_MS).astype(np.float32)
    senders_chosen = (rank[by_app[chosen]] % tenants).astype(np.int32)
    return arrivals.make(seconds, _inside(moved * (seconds / span), seconds), senders_chosen, work_ms)


def _lines(path: Path, rows: Iterator[list[str]], columns: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Rows and their line numbers; empty lines are none. BadTrace: columns are missing, or it is no text."""
    line = 1
    while True:
        line += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError) as e:
            raise BadTrace(f"{path}:{line}: not a line of CSV: {e}") from None
        if not row:
            continue
        if len(row) != columns:
            raise BadTrace(f"{path}:{line}: {len(row)} columns; {columns} are expected")
        yield line, row


def _inside(at_seconds: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    # A schedule's times are below its length.
    return np.minimum(at_seconds, np.nextafter(seconds, 0.0))
