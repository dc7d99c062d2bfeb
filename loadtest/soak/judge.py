"""From what a run saw to its findings. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cli.supervisor.log_file import MAX_LOG_BYTES
from loadtest.plan.site import SANDBOXES
from loadtest.soak import verdict
from loadtest.soak.plan import SoakPlan
from loadtest.soak.verdict import MIB, Finding, Kind, Ledger, Series
from loadtest.soak.watch import Sample

# What the load's own handlers leave behind for the generator: it grows by a record an event, on purpose.
RECORDS = "buckets"
WAL, SHARD_FILES, LOGS = "wal", "shards", "logs"
# A service's log and the part before it: a failed attempt is a line, so that half an hour does not fill them.
LOG_FILES = 2
QUANTILES = {"p50": 0.5, "p99": 0.99}
# Differences of so few ms are the scheduler's.
NOISE_MS = {"p50": 5.0, "p99": 20.0}


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it was seen. latencies: by measure, when each event was due (s since the begin) and its ms."""

    plan: SoakPlan
    samples: Sequence[Sample]
    missed: int
    cores: int
    ledger: Ledger
    generator_void: Sequence[str]
    latencies: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """latency_void: why latencies are told and not judged; empty: they are among the findings."""

    findings: Sequence[Finding]
    latency_void: str = ""

    @property
    def not_flat(self) -> list[Finding]:
        """What is not as it must be; empty: the run was flat."""
        return [one for one in self.findings if not one.is_flat]


def judge(run: Run) -> Judged:
    """Everything, in the order of the page."""
    after = run.plan.warm_up_seconds
    times = [one.at_seconds for one in run.samples]
    found = [
        verdict.ledger(run.ledger),
        verdict.refusals(run.ledger),
        verdict.same_processes([one.pids for one in run.samples]),
        verdict.looks(run.missed, len(run.samples)),
        *(verdict.trend(series, after) for series in trends(run.samples)),
        verdict.bounded(
            "WAL files",
            times,
            [one.disk.get(WAL, 0) for one in run.samples],
            after,
            run.plan.wal_bound_bytes,
            "checkpoints that do not come or do not end (services/queue/writer.py)",
        ),
        verdict.bounded(
            "logs of the services",
            times,
            [one.disk.get(LOGS, 0) for one in run.samples],
            after,
            max((len(one.pids) for one in run.samples), default=0) * LOG_FILES * MAX_LOG_BYTES,
            "logs that are not cut (cli/supervisor/log_file.py)",
        ),
        verdict.rows("outcome rows", times, [one.outcomes for one in run.samples], after, run.plan.expected_outcomes),
        verdict.rows(
            "dead letters", times, [one.dead_letters for one in run.samples], after, run.plan.expected_dead_letters
        ),
    ]
    void = verdict.latency_void(
        [one.load_average for one in run.samples if one.at_seconds >= after], run.cores, run.generator_void
    )
    if not void:
        for measure, (at, values_ms) in run.latencies.items():
            for name, part in QUANTILES.items():
                stretches, found_ms = by_stretch(at, values_ms, part, run.plan.sample_seconds)
                found.append(verdict.latency(f"{measure}, {name}", stretches, found_ms, after, NOISE_MS[name]))
    return Judged(found, void)


def trends(samples: Sequence[Sample]) -> list[Series]:
    """Every series whose slope is judged; a node that was not in every look has only the looks that it was in."""
    times = [one.at_seconds for one in samples]
    found: list[Series] = []

    def add(name: str, kind: Kind, values: Sequence[float | None]) -> None:
        pairs = [(at, value) for at, value in zip(times, values, strict=True) if value is not None]
        found.append(Series(name, kind, [at for at, _ in pairs], [value for _, value in pairs]))

    nodes = list(dict.fromkeys(name for one in samples for name in one.nodes if name != SANDBOXES))
    services = [[one.nodes[name].rss_bytes for name in nodes if name in one.nodes] for one in samples]
    add("memory of all services", Kind.FLEET_MEMORY, [sum(parts) for parts in services])
    for name in nodes:
        seen = [one.nodes.get(name) for one in samples]
        add(f"memory of {name}", Kind.MEMORY, [one.rss_bytes if one else None for one in seen])
        fds = Kind.HOST_FDS if name.startswith("runtime-") else Kind.FDS
        add(f"fds of {name}", fds, [one.fds if one and one.fds >= 0 else None for one in seen])
        add(f"threads of {name}", Kind.THREADS, [one.threads if one else None for one in seen])
    sandboxes = [one.nodes.get(SANDBOXES) for one in samples]
    add("sandbox processes", Kind.SANDBOXES, [one.processes if one else 0 for one in sandboxes])
    a_process = [one.rss_bytes / one.processes if one else None for one in sandboxes]
    add("memory of a sandbox process", Kind.SANDBOX_MEMORY, a_process)
    add("shard files", Kind.SHARD_FILES, [one.disk.get(SHARD_FILES, 0) for one in samples])
    for name in sorted({name for one in samples for name in one.disk} - {RECORDS, WAL, SHARD_FILES, LOGS}):
        add(f"files: {name}", Kind.DISK, [one.disk.get(name, 0) for one in samples])
    add("depth", Kind.DEPTH, [one.depth for one in samples])
    return found


def by_stretch(
    at_seconds: NDArray[np.float64], values: NDArray[np.float64], part: float, stretch_seconds: float
) -> tuple[list[float], list[float]]:
    """The begin of each stretch of time that has events, and this quantile of theirs."""
    if not len(at_seconds):
        return [], []
    stretches = np.floor(at_seconds / stretch_seconds).astype(int)
    order = np.argsort(stretches, kind="stable")
    numbers, firsts = np.unique(stretches[order], return_index=True)
    groups = np.split(values[order], firsts[1:])
    return [float(one * stretch_seconds) for one in numbers], [float(np.quantile(one, part)) for one in groups]


def disk_shown(sample: Sample) -> str:
    """Bytes by kind, for people."""
    return ", ".join(f"{kind} {size / MIB:.1f}" for kind, size in sorted(sample.disk.items()))
