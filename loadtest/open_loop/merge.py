"""What several drivers found, made into one result. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.open_loop.outcomes import DROPPED, FAILED, FIRST_REASON, UNANSWERED, UNSENT, Part, is_accepted
from loadtest.open_loop.result import Latency, LoadResult, latency
from loadtest.open_loop.spec import LoadSpec
from loadtest.open_loop.validity import LATE_MS, void_reasons

HOTTEST_TENANTS = 20


@dataclass(frozen=True, slots=True)
class Followed:
    """What is known of the events' way after the door.

    start_ms, gave_up_ms: by place in the merged events, from the intended send to the handler's first instruction, NaN:
    none was seen, and to the moment from which nobody looked for it any longer. is_followed: by place, whether its
    start was looked for at all. settled_ms: of the sample's accepted events in the counted part, to their end, those
    that were not seen to end with the time until they were given up; not_settled: how many these are. completed:
    handlers that ended within the counted part. settled_seconds: see LoadResult.
    """

    start_ms: NDArray[np.float64]
    gave_up_ms: NDArray[np.float64]
    is_followed: NDArray[np.bool_]
    settled_ms: NDArray[np.float64]
    not_settled: int
    drained_seconds: float
    completed: int = 0
    settled_seconds: float = 0.0


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
    # A send whose turn came late is the generator's doing, whether or not there was room for it then.
    tried = counted & (found.codes != UNSENT)
    late = int((found.sent_ns[tried] - found.due_ns[tried] > LATE_MS * 1e6).sum())
    refused = Counter(codes[codes >= FIRST_REASON].tolist())
    accepted = counted & is_accepted(found.codes)
    answered = accepted & (found.answered_ns < int(spec.traffic.seconds * 1e9))
    # What has no answer waited as long as anybody waited for it.
    waited = accepted | (counted & (found.codes == UNANSWERED))
    accept_ms = (found.answered_ns - found.due_ns) / 1e6
    followed_to_start = accepted & followed.is_followed
    not_started = followed_to_start & np.isnan(followed.start_ms)
    start_ms = np.where(np.isnan(followed.start_ms), followed.gave_up_ms, followed.start_ms)
    planned = int(counted.sum())
    times: _Times = {"accept": (waited, accept_ms), "start": (followed_to_start, start_ms)}
    return LoadResult(
        door=spec.door,
        planned=planned,
        sent=int((tried & (found.codes != DROPPED)).sum()),
        late=late,
        dropped=int((codes == DROPPED).sum()),
        accepted=int(accepted.sum()),
        refused={found.reasons[code - FIRST_REASON]: count for code, count in sorted(refused.items())},
        unanswered=int((codes == UNANSWERED).sum()),
        seconds=spec.traffic.seconds - spec.warm_up_seconds,
        drained_seconds=followed.drained_seconds,
        generator_cpu=found.cpu,
        accept=latency(accept_ms[waited]),
        start=latency(start_ms[followed_to_start]),
        settled=latency(followed.settled_ms),
        by_tenant=_by_tenant(found.tenants, counted, times),
        void=void_reasons(planned, late, found.cpu),
        answered=int(answered.sum()),
        not_started=int(not_started.sum()),
        handler_failures=int((codes == FAILED).sum()),
        completed=followed.completed,
        not_settled=followed.not_settled,
        settled_seconds=followed.settled_seconds,
        groups=_groups(spec, found.tenants, times),
    )


# Of each latency: which events have a time, and the times of all, in ms.
_Times = Mapping[str, tuple[NDArray[np.bool_], NDArray[np.float64]]]


def _by_tenant(tenants: NDArray[np.int32], counted: NDArray[np.bool_], times: _Times) -> dict[str, dict[str, Latency]]:
    """Of those tenants that had the most events; none where there is one tenant."""
    events = np.bincount(tenants[counted], minlength=1)
    hottest = [int(one) for one in np.argsort(-events, kind="stable")[:HOTTEST_TENANTS] if events[one]]
    if len(hottest) < 2:
        return {}
    return {str(tenant): _latencies(tenants == tenant, times) for tenant in hottest}


def _groups(spec: LoadSpec, tenants: NDArray[np.int32], times: _Times) -> dict[str, dict[str, Latency]]:
    if not spec.traffic.noisy_part:
        return {}
    # The last one, see arrivals.tenants.
    is_noisy = tenants == spec.traffic.tenants
    return {"noisy": _latencies(is_noisy, times), "others": _latencies(~is_noisy, times)}


def _latencies(mine: NDArray[np.bool_], times: _Times) -> dict[str, Latency]:
    kinds = {name: latency(times_ms[has & mine]) for name, (has, times_ms) in times.items()}
    return {name: one for name, one in kinds.items() if one is not None}
