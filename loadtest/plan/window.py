"""What the looks of one run say of its counted part and of the drain behind it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.plan import cpu
from loadtest.plan.sampling import Look


@dataclass(frozen=True, slots=True)
class Window:
    """CPU seconds by service and events that ended, over the counted part and the drain; ended: over the former alone,
    None: not seen; see measured.Run."""

    cpu_seconds: Mapping[str, float]
    busiest_core: Mapping[str, float]
    settled: int
    ended: int | None


def window(looks: Sequence[Look], begin: float, end: float, drained: float, service_of: Callable[[int], str]) -> Window:
    """Between looks everything is taken to grow evenly. Times in seconds since the epoch: the counted part's begin and
    end, and when the last event had ended. Without two looks it is empty."""
    if len(looks) < 2:
        return Window({}, {}, 0, None)
    before, after = _at(looks, begin, service_of), _at(looks, drained, service_of)
    first, last = _nearest(looks, begin), _nearest(looks, end)
    return Window(
        {name: round(seconds, 4) for name, seconds in cpu.spent(before[0], after[0]).items()},
        {
            name: round(part, 4)
            for name, part in cpu.busiest(first.times, last.times, last.at - first.at, service_of).items()
        },
        max(0, round(after[1] - before[1])),
        max(0, round(_at(looks, end, service_of)[1] - before[1])),
    )


def _nearest(looks: Sequence[Look], at: float) -> Look:
    return min(looks, key=lambda look: abs(look.at - at))


def _at(looks: Sequence[Look], at: float, service_of: Callable[[int], str]) -> tuple[dict[str, float], float]:
    """CPU seconds by service and events that had ended at this time; beyond the looks those of the outermost one."""
    later = next((index for index, look in enumerate(looks) if look.at >= at), len(looks) - 1)
    now, before = looks[later], looks[max(0, later - 1)]
    part = 1.0 if now is before else min(1.0, max(0.0, (at - before.at) / (now.at - before.at)))
    low, high = cpu.by_service(before.times, service_of), cpu.by_service(now.times, service_of)
    used = {name: low.get(name, 0.0) + part * max(0.0, seconds - low.get(name, 0.0)) for name, seconds in high.items()}
    return used, before.shards.finished + part * (now.shards.finished - before.shards.finished)
