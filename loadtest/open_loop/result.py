"""What a run of the driver found; pure data that goes through JSON between processes and into reports."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, all from the intended send. Quantiles are exact: the smallest value that at least this part does
    not exceed. histogram: (upper edge in ms, count) of every bucket that has any, edges a factor of 2**0.25 apart."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    histogram: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One run of one or several drivers, its warm-up left out.

    planned: sends that the schedule asked for; sent: those that left; late: their turn came more than LATE_MS late;
    dropped: never left, since as many as the driver may have under way had no answer: the fleet's doing, and an error,
    where the driver itself was in time. accepted: answered as the door answers what it took (202 and durable, or a
    synchronous result); answered: of them, those whose answer came before the schedule's end. refused: by the reason of
    the error table, or the HTTP status, or "connection". unanswered: no answer within the bound. handler_failures:
    synchronous results that are function errors though the event did not ask for one.
    accept: to the answer, of all that were sent and not refused: an unanswered one counts with the time until it was
    given up. start: to the handler's first instruction, of all accepted (without records: of the sample below): one
    that never began counts with the time until that was given up, and in not_started. settled: to the event's end as
    GetEvent tells it, of a sample drawn from the schedule; one that has not ended counts likewise. start and settled
    are None where they were not measured. not_settled: those of the sample that had not. completed: handlers that ended
    within the counted part of the schedule's time, 0 without records. seconds: of the counted part; drained_seconds:
    from its end to the last handler's end; settled_seconds: to the end of the sample's last event, or to when that was
    given up. groups: accept and start of the noisy tenant's events ("noisy") and of all the others'; empty: there is no
    noisy one. void: why it counts for nothing; empty: it counts.
    """

    door: str
    planned: int
    sent: int
    late: int
    dropped: int
    accepted: int
    refused: Mapping[str, int]
    unanswered: int
    seconds: float
    drained_seconds: float
    generator_cpu: float
    accept: Latency | None
    start: Latency | None
    settled: Latency | None
    by_tenant: Mapping[str, Mapping[str, Latency]] = field(default_factory=dict)
    void: Sequence[str] = ()
    answered: int = 0
    not_started: int = 0
    handler_failures: int = 0
    completed: int = 0
    not_settled: int = 0
    settled_seconds: float = 0.0
    groups: Mapping[str, Mapping[str, Latency]] = field(default_factory=dict)

    @property
    def error_part(self) -> float:
        """Refused, unanswered, dropped, failed or never begun, of all planned."""
        bad = sum(self.refused.values()) + self.unanswered + self.dropped + self.handler_failures + self.not_started
        return bad / self.planned if self.planned else 0.0

    @property
    def planned_per_second(self) -> float:
        """The rate that the schedule really had: a random count, a herd or a trace makes it another than was told."""
        return self.planned / self.seconds

    @property
    def accepted_per_second(self) -> float:
        """Goodput at the door, by the answers that came in the run's time."""
        return self.answered / self.seconds


def latency(values_ms: NDArray[np.float64]) -> Latency | None:
    """The summary of these; None: there are none."""
    if not len(values_ms):
        return None
    ordered = np.sort(values_ms)
    places = [max(0, int(np.ceil(part * len(ordered))) - 1) for part in QUANTILES]
    p50, p90, p99, p999 = (float(ordered[place]) for place in places)
    buckets = np.ceil(4 * np.log2(np.maximum(ordered, 2.0**-10))).astype(int)
    edges, counts = np.unique(buckets, return_counts=True)
    histogram = tuple(
        (round(float(2.0 ** (edge / 4)), 6), int(count)) for edge, count in zip(edges, counts, strict=True)
    )
    return Latency(len(ordered), float(ordered.mean()), p50, p90, p99, p999, float(ordered[-1]), histogram)


def as_json(result: LoadResult) -> dict[str, Any]:
    """For json.dumps; `from_json` takes it back."""
    return asdict(result)


def from_json(told: Mapping[str, Any]) -> LoadResult:
    """What as_json gave. KeyError, TypeError: it is something else."""
    fields = dict(told)
    for name in ("accept", "start", "settled"):
        fields[name] = _latency_from(fields[name])
    # Results that were saved before have no groups.
    for table in ("by_tenant", "groups"):
        fields[table] = {
            whose: {name: one for name, found in kinds.items() if (one := _latency_from(found)) is not None}
            for whose, kinds in fields.get(table, {}).items()
        }
    fields["void"] = tuple(fields["void"])
    return LoadResult(**fields)


def _latency_from(told: Mapping[str, Any] | None) -> Latency | None:
    if told is None:
        return None
    histogram = tuple((edge, count) for edge, count in told["histogram"])
    return Latency(**{**told, "histogram": histogram})
