"""What several drivers found, made into one result. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.open_loop.outcomes import ACCEPTED, DROPPED, FIRST_REASON, UNANSWERED, UNSENT, Part
from loadtest.open_loop.result import Latency, LoadResult, latency
from loadtest.open_loop.spec import LoadSpec
from loadtest.open_loop.validity import LATE_MS, void_reasons

HOTTEST_TENANTS = 20


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known of the events' way after the door; arrays of ms, all from the intended send.

    start_ms: by place in the merged events, NaN: not started or not known. settled_ms: of the sample.
    """

    start_ms: NDArray[np.float64]
    settled_ms: NDArray[np.float64]
    drained_seconds: float


@dataclass(frozen=True, slots=True)
class Merged:
    """The events of all drivers, one entry each: see Part."""

    numbers: NDArray[np.int64]
    tenants: NDArray[np.int32]
    due_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    answered_ns: NDArray[np.int64]
    codes: NDArray[np.int32]
    reasons: Sequence[str]
    ids: Mapping[int, str]
    cpu: float


def merge(parts: Sequence[Part]) -> Merged:
    """All drivers' events, their reasons told alike; cpu: the busiest driver's."""
    reasons: dict[str, int] = {}
    codes = []
    for part in parts:
        told = [FIRST_REASON + reasons.setdefault(name, len(reasons)) for name in part.reasons]
        table = np.array([*range(FIRST_REASON), *told], dtype=np.int32)
        codes.append(table[part.codes])
    return Merged(
        np.concatenate([part.numbers for part in parts]),
        np.concatenate([part.tenants for part in parts]),
        np.concatenate([part.due_ns for part in parts]),
        np.concatenate([part.sent_ns for part in parts]),
        np.concatenate([part.answered_ns for part in parts]),
        np.concatenate(codes),
        tuple(reasons),
        {number: request_id for part in parts for number, request_id in part.ids.items()},
        max(part.cpu for part in parts),
    )


def conclude(spec: LoadSpec, found: Merged, followed: Followed) -> LoadResult:
    """The result of the counted part, judged."""
    counted = found.due_ns >= int(spec.warm_up_seconds * 1e9)
    codes = found.codes[counted]
    left = (codes != UNSENT) & (codes != DROPPED)
    late_ns = found.sent_ns[counted][left] - found.due_ns[counted][left]
    refused = Counter(codes[codes >= FIRST_REASON].tolist())
    accepted = counted & (found.codes == ACCEPTED)
    accept_ms = (found.answered_ns - found.due_ns) / 1e6
    started = accepted & ~np.isnan(followed.start_ms)
    planned = int(counted.sum())
    late, dropped = int((late_ns > LATE_MS * 1e6).sum()), int((codes == DROPPED).sum())
    return LoadResult(
        door=spec.door,
        planned=planned,
        sent=int(left.sum()),
        late=late,
        dropped=dropped,
        accepted=int(accepted.sum()),
        refused={found.reasons[code - FIRST_REASON]: count for code, count in sorted(refused.items())},
        unanswered=int((codes == UNANSWERED).sum()),
        seconds=spec.traffic.seconds - spec.warm_up_seconds,
        drained_seconds=followed.drained_seconds,
        generator_cpu=found.cpu,
        accept=latency(accept_ms[accepted]),
        start=latency(followed.start_ms[started]),
        settled=latency(followed.settled_ms),
        by_tenant=_by_tenant(found.tenants, counted, accepted, accept_ms, started, followed.start_ms),
        void=void_reasons(planned, late, dropped, found.cpu),
    )


def _by_tenant(
    tenants: NDArray[np.int32],
    counted: NDArray[np.bool_],
    accepted: NDArray[np.bool_],
    accept_ms: NDArray[np.float64],
    started: NDArray[np.bool_],
    start_ms: NDArray[np.float64],
) -> dict[str, dict[str, Latency]]:
    """Of those tenants that had the most events; none where there is one tenant."""
    events = np.bincount(tenants[counted], minlength=1)
    hottest = [int(one) for one in np.argsort(-events, kind="stable")[:HOTTEST_TENANTS] if events[one]]
    if len(hottest) < 2:
        return {}
    told: dict[str, dict[str, Latency]] = {}
    for tenant in hottest:
        mine = tenants == tenant
        kinds = {"accept": latency(accept_ms[accepted & mine]), "start": latency(start_ms[started & mine])}
        told[str(tenant)] = {name: one for name, one in kinds.items() if one is not None}
    return told
