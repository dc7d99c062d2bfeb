"""When to start a further sandbox, which idle one to end, who is next. Pure: counts and times in, decisions out."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

# Few sandboxes share the cores well even when each turns over fast.
EAGER_SANDBOXES = 2
# Runs that wait in a sandbox's own channel: at most so many, and at most so many milliseconds of them.
MAX_AHEAD = 8
AHEAD_MS = 2.0
# A function crowds the host when it has more than this part of all that waits and runs there, and more than a few.
CROWD_PART = 8
CROWD_LEAST = 6
# No function is passed over for longer; how long its events wait is another thing, a backlog makes that long, too.
MAX_PASSED_OVER_MS = 1_000.0
# Functions that are looked at for one share; they are in the order in which they came.
MAX_IN_LINE = 64
# 10,240 MB in sandboxes of 128 MB.
MAX_VICTIMS = 80
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
class InLine:
    """A function that waits for a share: what waits and runs of it here, and since when the first one waits.

    passed_over_ms: since when none of it has begun although one waited.
    """

    owner: object
    present: int
    oldest_ms: float
    passed_over_ms: float


def next_in_line(line: Sequence[InLine], present: int, now_ms: float) -> InLine:
    """Who gets a share that came free: the longest waiting of those that crowd the host least.

    `present`: all that waits and runs here. Who has twice as much of it crowds a step more. Turns alone would give a
    function with a backlog as many as one that sends a little: an event of the latter would wait for a whole round. A
    function that has no turn for long has less and less here, as its pace goes down (services/poller/pace.py), and so
    does not crowd any more.
    """

    def rank(one: InLine) -> tuple[int, float]:
        if one.present <= CROWD_LEAST or now_ms - one.passed_over_ms >= MAX_PASSED_OVER_MS:
            return 0, one.oldest_ms
        return (one.present * CROWD_PART // max(1, present)).bit_length(), one.oldest_ms

    return min(line, key=rank)


@dataclass(frozen=True, slots=True)
class Idle:
    """An idle sandbox: whose it is, since when, and how much memory comes free with it."""

    number: int
    owner: object
    since_ms: float
    memory_mb: int = 128


@dataclass(frozen=True, slots=True)
class Need:
    """What is lacking for some starts. `sandboxes`: places. At most MAX_VICTIMS sandboxes are ended at a time."""

    memory_mb: int
    sandboxes: int

    @property
    def is_met(self) -> bool:
        """Whether nothing is lacking."""
        return self.memory_mb <= 0 and self.sandboxes <= 0


def victims(idle: Iterable[Idle], wanted_by: Collection[object], need: Need) -> list[int]:
    """Numbers of the sandboxes to end for starts of other functions: least recently used first, no more than needed.

    `idle` comes least recently used first. All there are when they are not enough: the room is kept for the start.
    """
    chosen: list[Idle] = []
    freed_mb = 0
    for one in idle:
        if (freed_mb >= need.memory_mb and len(chosen) >= need.sandboxes) or len(chosen) >= MAX_VICTIMS:
            break
        if one.owner not in wanted_by:
            chosen.append(one)
            freed_mb += one.memory_mb
    # A large one that came last may make some of the small ones before it needless; the newest is spared first.
    spare_mb = freed_mb - need.memory_mb
    for one in reversed(chosen[:-1]):
        if one.memory_mb <= spare_mb and len(chosen) > need.sandboxes:
            chosen.remove(one)
            spare_mb -= one.memory_mb
    return [one.number for one in chosen]


def expired(idle: Iterable[Idle], now_ms: float, idle_ms: float) -> list[int]:
    """Numbers of those that were idle too long; `idle` comes least recently used first."""
    return [one.number for one in takewhile(lambda one: now_ms - one.since_ms >= idle_ms, idle)]
