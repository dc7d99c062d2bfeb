"""What a run has measured, by measure and contestant, repeat after repeat."""

from dataclasses import dataclass, field

from loadtest.bench import stats
from loadtest.bench.meter import Rate


@dataclass(slots=True)
class Series:
    """The repeats of one figure of one contestant."""

    values: list[float] = field(default_factory=list)
    # Of rates only: the load generator's CPU, per cent of one core, and each service's microseconds an event.
    generator_cpu_percent: list[float] = field(default_factory=list)
    cpu_us_per_event: dict[str, list[float]] = field(default_factory=dict)

    @property
    def summary(self) -> stats.Summary:
        """Median and spread."""
        return stats.summarize(self.values)

    @property
    def generator_cpu_median(self) -> float | None:
        """None: this is no rate."""
        return stats.summarize(self.generator_cpu_percent).median if self.generator_cpu_percent else None

    @property
    def cpu_us_medians(self) -> dict[str, float]:
        """Microseconds an event by service."""
        return {name: stats.summarize(values).median for name, values in self.cpu_us_per_event.items()}


class Results:
    """Everything measured so far."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}
        # What a reader has to know beside the figures.
        self.notes: list[str] = []

    def add(self, measure: str, contestant: str, value: float) -> None:
        """One repeat of a figure."""
        self._at(measure, contestant).values.append(value)

    def add_rate(self, measure: str, contestant: str, rate: Rate) -> None:
        """One repeat of a rate."""
        series = self._at(measure, contestant)
        series.values.append(rate.per_second)
        series.generator_cpu_percent.append(rate.generator_cpu_percent)
        for name, spent_us in rate.cpu_us_per_event.items():
            series.cpu_us_per_event.setdefault(name, []).append(spent_us)

    def find(self, measure: str, contestant: str) -> Series | None:
        """The series; None: it was not measured."""
        return self._series.get((measure, contestant))

    def medians(self, measure: str, contestants: tuple[str, ...]) -> dict[str, float]:
        """The medians of those contestants that were measured."""
        found = ((name, self.find(measure, name)) for name in contestants)
        return {name: series.summary.median for name, series in found if series is not None}

    def _at(self, measure: str, contestant: str) -> Series:
        return self._series.setdefault((measure, contestant), Series())
