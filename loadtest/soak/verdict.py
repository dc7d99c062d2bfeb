"""Whether a soak run was flat: each series judged by its kind, on the samples after the warm-up. Pure.

A slope is Theil and Sen's: the median of the slopes between all pairs, which a third of wild samples does not move. A
series grows when both hold: the lower end of the slope's 95 % interval is above what its kind may grow an hour, and
over the judged time it came to more than the kind's noise. So a short run needs a fast leak to be red, and a long one
shows a slow leak.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIB = 1 << 20
# Beyond so many samples they are thinned out evenly: the slopes are of all pairs.
MAX_POINTS = 1_500
LATENCY_RATIO = 1.5
# A machine with more runnable threads a core than this measures itself.
MAX_LOAD_PER_CORE = 1.0
# Rows beyond rate x retention, and the least part of it that shows that the table was filled at all.
ROWS_SLACK, ROWS_LEAST_PART = 1.25, 0.5
# Of looks that a node did not answer in time.
MAX_MISSED_PART = 0.1
# A quantile's stretches: each third needs so many.
MIN_STRETCHES = 5


class Kind(Enum):
    """What a series is of: (most growth an hour, growth over the judged time that is noise, where to look)."""

    MEMORY = (8.0 * MIB, 4.0 * MIB, "memory kept by this process: tables by event, tenant or connection that only grow")
    FLEET_MEMORY = (24.0 * MIB, 8.0 * MIB, "the processes below, one by one")
    SANDBOX_MEMORY = (8.0 * MIB, 4.0 * MIB, "memory of the handlers' own processes")
    FDS = (0.0, 3.0, "descriptors that are not closed: /proc/PID/fd of this process tells of what")
    # A host holds some for each sandbox, and their number is random.
    HOST_FDS = (0.0, 12.0, "descriptors of ended sandboxes that are not closed: /proc/PID/fd of this host")
    THREADS = (0.0, 3.0, "threads that do not end: py-spy dump --pid PID, or /proc/PID/task")
    SANDBOXES = (0.0, 5.0, "sandboxes that are not ended after runtime.idle_seconds")
    SHARD_FILES = (
        8.0 * MIB,
        4.0 * MIB,
        "rows that are never deleted: sqlite3_analyzer of a backup tells of which table",
    )
    DISK = (4.0 * MIB, 2.0 * MIB, "files of this folder that nothing bounds")
    DEPTH = (0.0, 30.0, "events are taken faster than they end: the rate is beyond the fleet, or something holds them")

    @property
    def most_an_hour(self) -> float:
        """Growth that is let be."""
        return float(self.value[0])

    @property
    def noise(self) -> float:
        """Growth over the judged time that is no growth."""
        return float(self.value[1])

    @property
    def look_at(self) -> str:
        """Where the cause may be."""
        return str(self.value[2])

    @property
    def in_bytes(self) -> bool:
        """Whether its values are bytes."""
        return self in (Kind.MEMORY, Kind.FLEET_MEMORY, Kind.SANDBOX_MEMORY, Kind.SHARD_FILES, Kind.DISK)


@dataclass(frozen=True, slots=True)
class Series:
    """One series over all samples. times: seconds since the begin of the load, ascending; as many values."""

    name: str
    kind: Kind
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one series. figure, bound: for people, with units; look_at: empty where it is well."""

    name: str
    figure: str
    bound: str
    is_flat: bool
    look_at: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was sent and what became of it, all over the run, after the drain.

    accepted: by the doors' clients; delivered: further events that the failure destination has to get; finished: ended
    at the queue nodes; depth: not ended; not_started: accepted events without a handler's record; refused: not taken,
    dropped or unanswered.
    """

    accepted: int
    delivered: int
    finished: int
    depth: int
    not_started: int
    refused: int

    @property
    def lost(self) -> int:
        """Accepted, and neither ended nor dead: by the nodes' count, or by the handlers' records."""
        return max(self.accepted + self.delivered - self.finished, self.not_started, self.depth, 0)


def trend(series: Series, after_seconds: float) -> Finding:
    """Whether it grows after the warm-up."""
    times, values = _judged(series.times, series.values, after_seconds)
    kind = series.kind
    bound = f"{_amount(kind.most_an_hour, kind)}/h beyond {_amount(kind.noise, kind)}"
    if len(times) < MIN_STRETCHES:
        return Finding(series.name, f"{len(times)} samples", bound, False, "too few samples: the process came or went")
    slope, _, low, _ = stats.theilslopes(values, times)
    grown = slope * (times[-1] - times[0])
    grows = low * 3_600 > kind.most_an_hour and grown > kind.noise
    level = _amount(float(np.median(values)), kind)
    figure = f"{level}; {_amount(slope * 3_600, kind, signed=True)}/h, {_amount(grown, kind, signed=True)} in all"
    return Finding(series.name, figure, bound, not grows, kind.look_at if grows else "")


def bounded(
    name: str, times: Sequence[float], values: Sequence[float], after_seconds: float, most: float, look_at: str
) -> Finding:
    """Whether bytes stay below a bound, all over the run and after the warm-up."""
    highest = max(values, default=0.0)
    _, judged = _judged(times, values, after_seconds)
    is_flat = bool(len(judged)) and highest <= most
    figure = f"at most {highest / MIB:.1f} MiB"
    return Finding(name, figure, f"{most / MIB:.1f} MiB", is_flat, "" if is_flat else look_at)


def rows(name: str, times: Sequence[float], values: Sequence[float], after_seconds: float, expected: float) -> Finding:
    """Whether a table holds what rate and retention say, after the warm-up: no more, and not next to nothing.

    expected: rate x retention. Beyond ROWS_SLACK the bound leaves room for five deviations of a random count.
    """
    most = expected * ROWS_SLACK + 5 * expected**0.5 + 5
    least = max(0.0, expected * ROWS_LEAST_PART - 5 * expected**0.5)
    _, judged = _judged(times, values, after_seconds)
    highest, middle = (float(judged.max()), float(np.median(judged))) if len(judged) else (0.0, -1.0)
    bound = f"{least:,.0f} to {most:,.0f} (rate x retention: {expected:,.0f})"
    figure = f"{max(middle, 0.0):,.0f} rows, at most {highest:,.0f}"
    if middle < least:
        return Finding(
            name, figure, bound, False, "rows go too early, or events did not come so far: is the fleet well?"
        )
    if highest > most:
        return Finding(name, figure, bound, False, "rows stay beyond their retention (services/queue/ageing.py)")
    return Finding(name, figure, bound, True)


def latency(
    name: str, times: Sequence[float], values_ms: Sequence[float], after_seconds: float, noise_ms: float
) -> Finding:
    """Whether the last third of the judged time is slower than its first. values_ms: a quantile of each stretch."""
    judged_times, judged = _judged(times, values_ms, after_seconds)
    bound = f"{LATENCY_RATIO:g} times the first third, and {noise_ms:g} ms"
    third = len(judged_times) // 3
    if third < MIN_STRETCHES:
        return Finding(name, f"{len(judged_times)} stretches", bound, False, "too few stretches to tell: a longer run")
    first, last = float(np.median(judged[:third])), float(np.median(judged[-third:]))
    is_flat = last <= first * LATENCY_RATIO + noise_ms
    look_at = "" if is_flat else "what grew meanwhile above, the machine's load, `evenflow trace` of a late event"
    return Finding(name, f"{first:.1f} ms first, {last:.1f} ms last", bound, is_flat, look_at)


def ledger(found: Ledger) -> Finding:
    """Whether all that was accepted came to an end."""
    total = found.accepted + found.delivered
    figure = f"{found.lost:,} of {total:,} lost ({found.finished:,} ended, {found.depth:,} in the queue)"
    look_at = "" if not found.lost else "`evenflow shards` and `evenflow events` of the kept data folder"
    return Finding("accepted events that did not end", figure, "0", not found.lost, look_at)


def refusals(found: Ledger) -> Finding:
    """Whether the doors took everything: a load with gaps is not steady."""
    look_at = "" if not found.refused else "the rate is beyond the fleet or the machine: a lower --rate"
    return Finding("sends refused, dropped or unanswered", f"{found.refused:,}", "0", not found.refused, look_at)


def same_processes(pids: Sequence[Mapping[str, int]]) -> Finding:
    """Whether every node was one process all over the run."""
    ended = sorted({name for one in pids for name, pid in one.items() if pid != pids[0].get(name)})
    look_at = "" if not ended else "logs/NODE.log of the kept data folder: what ended it"
    figure = ", ".join(ended) or "none"
    return Finding("nodes that ended meanwhile", figure, "none", not ended, look_at)


def looks(missed: int, made: int) -> Finding:
    """Whether the fleet answered when it was looked at."""
    is_flat = missed <= MAX_MISSED_PART * (missed + made)
    look_at = "" if is_flat else "nodes that do not answer in time"
    return Finding("looks without answer", f"{missed} of {missed + made}", f"{MAX_MISSED_PART:.0%}", is_flat, look_at)


def latency_void(load_averages: Sequence[float], cores: int, generator_void: Sequence[str]) -> str:
    """Why latencies are not judged; empty: they are."""
    load = float(np.median(load_averages)) if load_averages else 0.0
    if load / cores > MAX_LOAD_PER_CORE:
        return f"the machine's load was {load:.1f} on {cores} cores ({MAX_LOAD_PER_CORE:g} a core is allowed)"
    return f"the generator measured itself: {generator_void[0]}" if generator_void else ""


def _judged(
    times: Sequence[float], values: Sequence[float], after_seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    at, of = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    keep = at >= after_seconds
    at, of = at[keep], of[keep]
    every = -(-len(at) // MAX_POINTS) or 1
    return at[::every], of[::every]


def _amount(value: float, kind: Kind, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{value / MIB:{sign}.1f} MiB" if kind.in_bytes else f"{value:{sign}.1f}"
