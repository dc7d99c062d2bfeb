"""A fleet whose every figure is known: Poisson arrivals at so many slots with exponential handler times, and a line of
CPU for each service. What the plan concludes from its runs has to be what went in."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.shapes import Shape
from loadtest.open_loop.result import LoadResult, latency
from loadtest.open_loop.spec import LoadSpec, Traffic
from loadtest.open_loop.validity import MAX_GENERATOR_CPU
from loadtest.plan.measured import Drain, Fleet, Measured, Objective, Run, Sample
from loadtest.plan.readings import BOUND_WORDS, bound_use
from loadtest.plan.usl import usl
from loadtest.workloads.work import Work

ACCEPT_MS = 2.0
SAMPLE_SECONDS = 0.25
MAX_SAMPLES = 80


@dataclass(frozen=True)
class KnownFleet:
    """slots servers of `handler_seconds` (mean, exponential); demand, idle: CPU seconds an event, cores, by service."""

    slots: int = 8
    handler_seconds: float = 0.02
    seconds: float = 20.0
    warm_up_seconds: float = 2.0
    demand: Mapping[str, float] = field(
        default_factory=lambda: {
            "frontend": 0.0004,
            "queue": 0.0002,
            "poller": 0.0008,
            "runtime": 0.0005,
            "sandboxes": 0.0006,
        }
    )
    idle: Mapping[str, float] = field(
        default_factory=lambda: {"frontend": 0.01, "queue": 0.02, "poller": 0.03, "runtime": 0.01, "control": 0.01}
    )
    noise: float = 0.02
    shards: int = 4
    objective: Objective = field(default_factory=lambda: Objective(start_p99_ms=100.0))
    usl: tuple[float, float, float] = (48.0, 0.08, 0.0008)
    generator_cpu_an_event: float = 0.0003

    @property
    def capacity_per_second(self) -> float:
        """Of the slots."""
        return self.slots / self.handler_seconds

    @property
    def spec(self) -> LoadSpec:
        """Of every run."""
        return LoadSpec(
            host="127.0.0.1",
            http_port=9000,
            grpc_port=9001,
            traffic=Traffic(shape=Shape(name="poisson"), seconds=self.seconds),
            work=Work(sleep_ms=self.handler_seconds * 1_000),
            warm_up_seconds=self.warm_up_seconds,
        )

    def run(self, purpose: str, per_second: float, seed: int) -> Run:
        """One run at this rate."""
        draw = np.random.default_rng([seed, int(per_second)])
        count = draw.poisson(per_second * self.seconds)
        arrivals = np.sort(draw.uniform(0, self.seconds, count))
        starts, ends = _served(arrivals, draw.exponential(self.handler_seconds, count), self.slots)
        accept_ms = ACCEPT_MS + draw.exponential(0.3, count)
        counted = arrivals >= self.warm_up_seconds
        shift_ms = accept_ms
        seconds = self.seconds - self.warm_up_seconds
        drained = max(0.0, float(ends.max()) - self.seconds)
        settled = int((ends >= self.warm_up_seconds).sum())
        generator_cpu = min(1.0, self.generator_cpu_an_event * per_second)
        result = LoadResult(
            door="http",
            planned=int(counted.sum()),
            sent=int(counted.sum()),
            late=0,
            dropped=0,
            accepted=int(counted.sum()),
            refused={},
            unanswered=0,
            seconds=seconds,
            drained_seconds=drained,
            generator_cpu=generator_cpu,
            accept=latency(accept_ms[counted]),
            start=latency(((starts - arrivals) * 1_000 + shift_ms)[counted]),
            settled=latency(((ends - arrivals) * 1_000 + shift_ms)[counted]),
            void=("the generator was full",) if generator_cpu > MAX_GENERATOR_CPU else (),
            answered=int((counted & (arrivals + accept_ms / 1_000 <= self.seconds)).sum()),
            completed=int((counted & (ends <= self.seconds)).sum()),
        )
        run = Run(
            purpose=purpose,
            per_second=per_second,
            result=result,
            samples=self._samples(arrivals, starts, ends),
            cpu_seconds=self._cpu(settled, seconds + drained, draw),
            busiest_core=self._busiest(settled / (seconds + drained)),
            settled=settled,
            ended=int(((ends >= self.warm_up_seconds) & (ends <= self.seconds)).sum()),
        )
        used = bound_use(run, self.objective, self.spec)
        return replace(
            run, failed=tuple(f"{BOUND_WORDS[name]}: {one:.1f} times" for name, one in used.items() if one > 1)
        )

    def closed(self, callers: int, seed: int) -> Run:
        """So many callers, by the known scalability law."""
        draw = np.random.default_rng([seed, callers, 7])
        rate = float(usl(np.array([float(callers)]), *self.usl)[0]) * (1 + self.noise * draw.standard_normal())
        accepted = int(rate * 100)
        found = latency(np.full(10, 1_000 * callers / rate))
        result = LoadResult("http", accepted, accepted, 0, 0, accepted, {}, 0, 100.0, 0.0, 0.1, found, found, None)
        result = replace(result, answered=accepted, completed=accepted)
        cpu = self._cpu(accepted, 100.0, draw)
        return Run("closed", rate, result, (), cpu, self._busiest(rate), accepted, callers=callers, ended=accepted)

    def measured(
        self,
        rates: Sequence[float],
        repeats_at: float,
        repeats: int = 5,
        callers: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    ) -> Measured:
        """A plan: one run at each rate, the repeats, as many overloaded ones, closed runs, a drain."""
        runs = [self.run("search", rate, 1) for rate in rates]
        runs += [self.run("repeat", repeats_at, 10 + number) for number in range(repeats)]
        runs += [self.run("overload", 1.5 * repeats_at, 30 + number) for number in range(repeats)]
        runs += [self.closed(count, seed) for count in callers for seed in (1, 2)]
        return Measured(
            machine={"cpu": "a known one", "cores": 2, "commit": "0123456789ab", "python": "3.11.7"},
            fleet=Fleet(
                {"frontend": 1, "queue": 1, "poller": 1, "runtime": 1, "control": 1},
                self.shards,
                self.slots,
                {"a.b": "1"},
            ),
            objective=self.objective,
            spec=self.spec,
            runs=tuple(runs),
            drain=self.drain(0.5 * self.capacity_per_second),
            began="2026-01-02T03:04:05Z",
            seconds=300.0,
            memory_bytes={"frontend": 60 << 20, "queue": 50 << 20},
        )

    def drain(self, arriving_per_second: float, backlog: int = 2_000) -> Drain:
        """As the law says."""
        seconds = backlog / (self.capacity_per_second - arriving_per_second)
        depths = tuple((part * seconds, int(backlog * (1 - part))) for part in np.linspace(0, 1, 30).tolist())
        return Drain(backlog, arriving_per_second, seconds, depths, within_seconds=60.0)

    def _cpu(self, settled: int, seconds: float, draw: np.random.Generator) -> dict[str, float]:
        names = {*self.demand, *self.idle}
        return {
            name: float(
                (self.idle.get(name, 0.0) * seconds + self.demand.get(name, 0.0) * settled)
                * (1 + self.noise * draw.standard_normal())
            )
            for name in sorted(names)
        }

    def _busiest(self, rate: float) -> dict[str, float]:
        return {name: min(1.0, self.idle.get(name, 0.0) + self.demand.get(name, 0.0) * rate) for name in self.idle}

    def _samples(
        self, arrivals: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]
    ) -> tuple[Sample, ...]:
        at = np.arange(1, MAX_SAMPLES) * max(SAMPLE_SECONDS, self.seconds / MAX_SAMPLES)
        shard_of = np.arange(len(arrivals)) % self.shards
        depths = np.stack(
            [
                np.searchsorted(arrivals[mine := shard_of == shard], at) - np.searchsorted(np.sort(ends[mine]), at)
                for shard in range(self.shards)
            ]
        )
        running = np.searchsorted(np.sort(starts), at) - np.searchsorted(np.sort(ends), at)
        return tuple(
            Sample(
                float(at[place]),
                tuple(map(int, depths[:, place])),
                int(running[place]),
                int(running[place]),
                {},
                self.slots,
            )
            for place in range(len(at))
        )


def _served(
    arrivals: NDArray[np.float64], service_seconds: NDArray[np.float64], slots: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """First come, first served: (starts, ends)."""
    free = [0.0] * slots
    starts = np.empty_like(arrivals)
    ends = np.empty_like(arrivals)
    for number, (at, seconds) in enumerate(zip(arrivals.tolist(), service_seconds.tolist(), strict=True)):
        start = max(at, heapq.heappop(free))
        starts[number], ends[number] = start, start + seconds
        heapq.heappush(free, start + seconds)
    return starts, ends
