"""CPU by service from two looks at the fleet's processes. Pure."""

from collections.abc import Callable, Mapping

from loadtest.bench.processes import CpuTimes

Times = Mapping[int, CpuTimes]


def by_service(times: Times, service_of: Callable[[int], str]) -> dict[str, float]:
    """CPU seconds so far. What ended is in whoever reaped it, so a sum never shrinks but for what nobody reaped."""
    found: dict[str, float] = {}
    for pid, one in times.items():
        name = service_of(pid)
        found[name] = found.get(name, 0.0) + one.own + one.reaped
    return found


def spent(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds between two sums, by service, at least 0."""
    return {name: max(0.0, seconds - before.get(name, 0.0)) for name, seconds in now.items()}


def busiest(before: Times, now: Times, seconds: float, service_of: Callable[[int], str]) -> dict[str, float]:
    """The most that one process used of a core, by service; what came or went between the looks is left out."""
    found: dict[str, float] = {}
    for pid, one in now.items():
        if pid in before and seconds > 0:
            name = service_of(pid)
            found[name] = max(found.get(name, 0.0), (one.own - before[pid].own) / seconds)
    return found
