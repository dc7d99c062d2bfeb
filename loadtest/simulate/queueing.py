"""Events into shards that run them: a Poisson stream through the project's own choice and fair order.

The unit of time is the mean service time of a shard whose drain rate is 1.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.arrivals import tenants as skews
from loadtest.bench.stats import quantile
from loadtest.simulate import choices, draws, lines, reports
from loadtest.simulate.event_loop import EventLoop
from loadtest.simulate.lines import Waiting
from loadtest.simulate.traffic import tenant_name
from services.policy.shard_choice import WIDTH_FACTOR

MAX_SHARDS = 10_000
MAX_FRONTENDS = 64
# Of one run: 8 minutes or so.
MAX_EVENTS = 50_000_000
# Depths from here on share the last place of the tail.
DEEPEST = 1_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run.

    load: arrivals as a part of what all shards drain. drain_rates: by shard, () for 1 each. reports: a name of
    reports.KINDS, report_age: service times, 0 for fresh depths. tenants, tenant_sigma: lognormal weights, 0 for equal
    ones. order: a name of lines.ORDERS. quota_shards: the width in shards that every tenant's quota is good for.
    flood_load: one tenant more, the last, with so much load on top. deep: a depth that counts as met when it is more.
    warm_up, length: service times, before and during the counted part.
    """

    policy: str
    shards: int = 100
    load: float = 0.9
    service: str = "exponential"
    service_sigma: float = 1.0
    drain_rates: Sequence[float] = ()
    reports: str = "board"
    report_age: float = 0.0
    frontends: int = 1
    tenants: int = 1
    tenant_sigma: float = 0.0
    order: str = "fifo"
    quota_shards: float = 0.0
    flood_load: float = 0.0
    deep: int = 50
    warm_up: float = 500.0
    length: float = 2_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        """ValueError: not within bounds, in words."""
        if not 1 <= self.shards <= MAX_SHARDS:
            raise ValueError(f"{self.shards} shards: 1 to {MAX_SHARDS:,}")
        if not 1 <= self.frontends <= MAX_FRONTENDS:
            raise ValueError(f"{self.frontends} frontends: 1 to {MAX_FRONTENDS}")
        if not self.load > 0 or self.flood_load < 0:
            raise ValueError("load is above 0, and a flood's at least 0")
        if not self.length > 0 or self.warm_up < 0 or self.report_age < 0:
            raise ValueError("length is above 0; warm_up and report_age are at least 0")
        if self.drain_rates and (len(self.drain_rates) != self.shards or not min(self.drain_rates) > 0):
            raise ValueError(f"{len(self.drain_rates)} drain rates: one above 0 for each of {self.shards} shards")
        if self.events > MAX_EVENTS:
            raise ValueError(f"{self.events:,.0f} events: at most {MAX_EVENTS:,}; a shorter length or fewer shards")

    @property
    def arrivals_per_time(self) -> float:
        """Events a service time, of all tenants."""
        return (self.load + self.flood_load) * (sum(self.drain_rates) or self.shards)

    @property
    def events(self) -> float:
        """Events to expect."""
        return self.arrivals_per_time * (self.warm_up + self.length)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the counted part came to; events of the flooding tenant count in `tail` and `depth` only.

    events: that came; never_ended: the part of them that had not ended when the run did. response: mean service times
    from arrival to end; response_p99: the same, 99 %. Both count an event that never ended as its age at the end, which
    is less than its response would be; response_p99_most counts it as endless, None: then p99 is endless too.
    deep_part: of the others' events, the part that met a depth over Scenario.deep. depth: mean of all shards over time;
    tail: P(depth >= i) for i = 0, 1, ... DEEPEST.
    """

    events: int
    never_ended: float
    response: float
    response_p99: float
    response_p99_most: float | None
    deep_part: float
    depth: float
    tail: Sequence[float]


def p99_text(least: float, most: float | None) -> str:
    """A p99 for people: one figure, its bounds, "> X" when it lies among events that never ended, or "-" for none."""
    if math.isnan(least):
        return "-"
    if most is None:
        return f"> {least:,.1f}"
    # Bounds that differ by less than a reader sees.
    return f"{least:,.1f}" if most - least <= 0.01 * most else f"{least:,.1f} to {most:,.1f}"


def run(scenario: Scenario) -> Outcome:
    """The whole run. ValueError: no such policy, service, order or kind of reports."""
    return _Run(scenario).outcome()


class _Run:
    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        count, seed = scenario.shards, str(scenario.seed)
        self._loop = EventLoop()
        self._depths = [0] * count
        self._lines = [lines.make(scenario.order) for _ in range(count)]
        self._rates = scenario.drain_rates or (1.0,) * count
        self._reports = reports.make(
            scenario.reports, self._loop, self._depths, scenario.frontends, scenario.report_age
        )
        self._choosers = [choices.make(scenario.policy, scenario.seed).choose for _ in range(scenario.frontends)]
        self._draw = random.Random(f"draw {seed}").random
        self._gap = draws.gaps(seed, scenario.arrivals_per_time)
        self._service = draws.service_times(seed, scenario.service, scenario.service_sigma)
        parts = skews.weights("lognormal", scenario.tenants, seed, scenario.tenant_sigma)
        self._flooding = scenario.tenants if scenario.flood_load else -1
        if scenario.flood_load:
            parts = skews.with_noisy(parts, scenario.flood_load / (scenario.load + scenario.flood_load))
        self._tenant = draws.tenants(seed, parts)
        self._names = [tenant_name(tenant) for tenant in range(len(parts))]
        self._quota = scenario.quota_shards / (WIDTH_FACTOR * count)
        self._responses: list[float] = []
        self._arrived = self._deep = self._sent = 0
        self._running: dict[int, Waiting] = {}
        self._seen = np.zeros(DEEPEST + 1, dtype=np.int64)
        self._depth_sum = 0

    def outcome(self) -> Outcome:
        scenario, loop = self._scenario, self._loop
        loop.at(self._gap(), self._arrive)
        loop.every(1.0, self._look, first=scenario.warm_up)
        loop.run(scenario.warm_up + scenario.length)
        ended = self._responses
        ages = [loop.now - one.arrived for one in self._unfinished() if one.counted]
        known = ended + ages
        most = quantile(ended + [math.inf] * len(ages), 0.99) if known else math.nan
        looks = int(self._seen.sum())
        return Outcome(
            events=self._arrived,
            never_ended=len(ages) / self._arrived if self._arrived else math.nan,
            response=math.fsum(known) / len(known) if known else math.nan,
            response_p99=quantile(known, 0.99) if known else math.nan,
            response_p99_most=None if math.isinf(most) else most,
            deep_part=self._deep / self._arrived if self._arrived else math.nan,
            depth=self._depth_sum / looks,
            tail=tuple((self._seen[::-1].cumsum()[::-1] / looks).tolist()),
        )

    def _unfinished(self) -> Iterator[Waiting]:
        yield from self._running.values()
        for line in self._lines:
            while line:
                yield line.popleft()

    def _arrive(self, _: None) -> None:
        loop, depths = self._loop, self._depths
        now = loop.now
        loop.at(now + self._gap(), self._arrive)
        tenant = self._tenant()
        frontend = self._sent % len(self._choosers)
        self._sent += 1
        self._reports.before_choice()
        shard = self._choosers[frontend](
            self._names[tenant], self._quota, self._reports.known[frontend], self._draw, 0.0
        )
        assert shard is not None, "every simulated shard is healthy"
        counted = now >= self._scenario.warm_up and tenant != self._flooding
        if counted:
            self._arrived += 1
            self._deep += depths[shard] > self._scenario.deep
        one = Waiting(now, tenant, counted)
        depths[shard] += 1
        if depths[shard] == 1:
            self._start(shard, one)
        else:
            self._lines[shard].append(one)
        self._reports.sent(frontend, shard)

    def _start(self, shard: int, one: Waiting) -> None:
        self._running[shard] = one
        self._loop.at(self._loop.now + self._service() / self._rates[shard], self._end, shard)

    def _end(self, shard: int) -> None:
        one = self._running.pop(shard)
        self._depths[shard] -= 1
        if one.counted:
            self._responses.append(self._loop.now - one.arrived)
        line = self._lines[shard]
        if line:
            self._start(shard, line.popleft())
        self._reports.left(shard)

    def _look(self, _: None) -> None:
        self._depth_sum += sum(self._depths)
        self._seen += np.bincount(np.minimum(self._depths, DEEPEST), minlength=DEEPEST + 1)
