"""When to start a further sandbox and which idle one to end. Pure: counts and times in, decisions out."""

from collections.abc import Iterable
from dataclasses import dataclass

# Few sandboxes share the cores well even when each turns over fast.
EAGER_SANDBOXES = 2
# Runs that wait in a sandbox's own channel: at most so many, and at most so many milliseconds of them.
MAX_AHEAD = 8
AHEAD_MS = 2.0
# Weight of the newest run in the mean service time.
SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class ScaleRules:
    """See the settings runtime.scale_after_ms and runtime.scale_backlog_ms."""

    after_ms: float
    backlog_ms: float


@dataclass(frozen=True, slots=True)
class Demand:
    """One function on this host: what it has and what waits.

    oldest_wait_ms: of the invocations that may wait for a warm sandbox. quiet_ms: since a run last ended.
    service_ms: mean time a run holds its sandbox; None before the first.
    """

    idle: int
    busy: int
    starting: int
    waiting_sync: int
    waiting_async: int
    oldest_wait_ms: float
    quiet_ms: float
    service_ms: float | None


def starts_wanted(demand: Demand, rules: ScaleRules) -> int:
    """Cold starts to begin now, before the bounds of shares, slots and parallel starts.

    Who waits synchronously gets a start of its own. The others wait for a warm one: a start comes when there is no
    sandbox at all, or when the oldest waited its time and either nothing turns over or the backlog is long.
    """
    existing = demand.busy + demand.starting + demand.idle
    coming = demand.idle + demand.starting
    sync = max(0, demand.waiting_sync - coming)
    coming = max(0, coming - demand.waiting_sync)
    waiting = demand.waiting_async - coming
    if waiting <= 0:
        return sync
    if existing + sync == 0:
        return 1
    if demand.oldest_wait_ms < rules.after_ms:
        return sync
    if existing < EAGER_SANDBOXES:
        return sync + min(waiting, EAGER_SANDBOXES - existing)
    if demand.service_ms is None or demand.quiet_ms >= rules.after_ms:
        return sync + waiting
    if rules.backlog_ms <= 0:
        return sync + waiting
    # As many as bring the expected wait down to the bound, no more.
    needed = int(demand.waiting_async * demand.service_ms / rules.backlog_ms)
    return sync + max(0, min(waiting, needed - existing))


def runs_ahead(service_ms: float | None) -> int:
    """How many runs a busy sandbox may have waiting in its own channel, so that it need not sleep between two.

    Only handlers so short that whoever waits there hardly notices: one that turns out long would hold them up.
    """
    if service_ms is None:
        return 0
    return min(MAX_AHEAD, int(AHEAD_MS / max(service_ms, AHEAD_MS / MAX_AHEAD)))


def smoothed(mean_ms: float | None, newest_ms: float) -> float:
    """The mean service time with one more run in it."""
    return newest_ms if mean_ms is None else mean_ms + SMOOTHING * (newest_ms - mean_ms)


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle sandbox: whose it is and since when."""

    number: int
    owner: object
    since_ms: float


def victim(idle: Iterable[Idle], wanted_by: object) -> int | None:
    """The number of the sandbox to end for another function: the least recently used idle one; None: there is none."""
    candidates = [one for one in idle if one.owner is not wanted_by]
    return min(candidates, key=lambda one: one.since_ms).number if candidates else None


def expired(idle: Iterable[Idle], now_ms: float, idle_ms: float) -> list[int]:
    """Numbers of those that were idle too long."""
    return [one.number for one in idle if now_ms - one.since_ms >= idle_ms]
