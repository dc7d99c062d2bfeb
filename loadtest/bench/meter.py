"""Times one measured stretch: events a second, and what the load generator and the measured processes spent on it."""

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rate:
    """One measured stretch."""

    events: int
    seconds: float
    # CPU of the bench's own process over the stretch, per cent of one core.
    generator_cpu_percent: float
    # CPU of each measured process, microseconds an event.
    cpu_us_per_event: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Events a second."""
        return self.events / self.seconds


class Meter:
    """Starts now; `stop` gives the rate. `cpu_seconds` reads each measured process's CPU time by name."""

    def __init__(self, cpu_seconds: Callable[[], Mapping[str, float]] = dict) -> None:
        self._cpu_seconds = cpu_seconds
        self._before = cpu_seconds()
        self._own = _own_cpu_seconds()
        self._began = time.perf_counter()

    def stop(self, events: int) -> Rate:
        """The stretch is over: so many events went through."""
        seconds = time.perf_counter() - self._began
        own = _own_cpu_seconds() - self._own
        spent = {
            name: round((after - self._before.get(name, 0.0)) * 1e6 / events, 1)
            for name, after in self._cpu_seconds().items()
        }
        return Rate(events, seconds, round(100 * own / seconds, 1), spent)


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
