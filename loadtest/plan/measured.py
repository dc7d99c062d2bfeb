"""What a plan's runs found, before any conclusion; pure data, and the larger part of the plan's JSON.

`plan.measure` makes it, `plan.findings` concludes from it, `plan.report` draws both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.open_loop.result import LoadResult
from loadtest.open_loop.spec import LoadSpec

# Of the JSON; a reader refuses another one.
FORMAT = 2
SERVICES = ("frontend", "queue", "poller", "runtime", "control", "sandboxes")


@dataclass(frozen=True, slots=True)
class Objective:
    """What a rate has to hold: every bound over the counted part of a run.

    start_p99_ms: intended send to handler start. backlog_part: depth may not grow by more than this part of the
    accepted events, nor by more than it varies by itself (readings.backlog_allowed), so its slope is not above 0.
    """

    accept_p99_ms: float = 100.0
    start_p99_ms: float = 250.0
    error_part: float = 0.001
    backlog_part: float = 0.02


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the fleet, `at_seconds` after the run's first intended send.

    depths: events not settled, by shard id; leased: of them, leased now; in_flight: at runtime hosts; cpu_cores: cores
    used since the last look, by service; sandboxes: running now.
    """

    at_seconds: float
    depths: Sequence[int]
    leased: int
    in_flight: int
    cpu_cores: Mapping[str, float]
    sandboxes: int

    @property
    def depth(self) -> int:
        """Of all shards."""
        return sum(self.depths)


@dataclass(frozen=True, slots=True)
class Run:
    """One run at one rate. purpose: "search", "repeat" (of the best rate), "around" (one step below and above it),
    "overload" (well beyond it, for the highest throughput), "curve", "closed" (callers set), "confirm".

    failed: the bounds of the objective that it did not hold, in words; empty: it held all of them.
    cpu_seconds: CPU time by service over the counted part and the drain; settled: events that ended in that time;
    ended: those that ended in the counted part, by the fleet's own counters at its begin and end (None: not seen);
    busiest_core: the most CPU that one process of a service used, 0 to 1 of a core, by service.
    replicas: processes by service, where they were others than the fleet's ("confirm" of a prediction).
    """

    purpose: str
    per_second: float
    result: LoadResult
    samples: Sequence[Sample]
    cpu_seconds: Mapping[str, float]
    busiest_core: Mapping[str, float]
    settled: int
    failed: Sequence[str] = ()
    callers: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict)
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """A backlog made while pollers were paused, and how it went away under load.

    seconds: from the pause's end until the depth was settled_depth, what it was at most before the pause; None: it was
    not within within_seconds. depths: (seconds since the pause ended, depth); arriving_per_second: meanwhile, as the
    fleet counted what came in. void: why it shows nothing of the fleet; empty: it does.
    """

    backlog: int
    arriving_per_second: float
    seconds: float | None
    depths: Sequence[tuple[float, int]]
    settled_depth: float = 0.0
    within_seconds: float = 0.0
    void: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was measured: processes by service, and what bounds them.

    slots: sandboxes that one runtime host may run at once; settings: those given to the fleet.
    """

    replicas: Mapping[str, int]
    shards: int
    slots: int
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything. machine: as loadtest.bench.machine.describe_host tells; spec: every run's, but for rate and seed.

    memory_bytes: proportional set size by service after the repeats; empty: not measured. memory_unread: processes of
    a service whose size could not be read: its bytes are without them. function_memory_mb: memory size of the function
    that ran, as AWS would charge it.
    """

    machine: Mapping[str, str | int]
    fleet: Fleet
    objective: Objective
    spec: LoadSpec
    runs: Sequence[Run]
    drain: Drain | None
    began: str
    seconds: float
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    function_memory_mb: int = 128
    memory_unread: Mapping[str, int] = field(default_factory=dict)
