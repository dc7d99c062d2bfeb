"""One seed: a fleet of its own, warm-up, the baseline phase, the flooded phase."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.stats import quantile
from loadtest.fair_share import sender, tenants
from loadtest.fair_share.plan import BYSTANDER, NOISY, Plan, Send, schedule
from loadtest.fair_share.start_reader import StartReader

WARM_UP, BASELINE, FLOOD = 1, 2, 3
SHARDS = 8
MAX_SANDBOXES = 160
# How long after a phase its last quiet event may begin.
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Dwell:
    """Accept -> handler start of some tenants' events in one phase, from the intended send, milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase. bystander: the tenant that is judged; quiet: all other background tenants together."""

    bystander: Dwell
    quiet: Dwell
    accept_p99_ms: float
    sends: int
    late: int
    refused: int
    noisy_started_per_second: float
    started_per_second: float
    fleet_cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """One seed."""

    seed: int
    baseline: Phase
    flood: Phase
    repeated_starts: int

    @property
    def ratio(self) -> float:
        """The bystander's flooded p99 over its baseline."""
        return self.flood.bystander.p99_ms / self.baseline.bystander.p99_ms


async def measure(plan: Plan, seed: int, up_arguments: tuple[str, ...] = ()) -> Result:
    """Run one seed. RuntimeError or TimeoutError: the fleet or a stream failed, or a quiet event never began."""
    with tempfile.TemporaryDirectory(prefix="ef-", dir="/tmp") as folder:
        arguments = (
            *("--shards", str(SHARDS)),
            # The slots: what may run at once in the account. Sandboxes are kept warm beyond them, for every tenant.
            *("--set", f"fleet.account_concurrency={plan.slots}", "--set", f"runtime.max_sandboxes={MAX_SANDBOXES}"),
            *up_arguments,
        )
        fleet = EvenflowFleet(Path(folder), 0, arguments)
        try:
            await fleet.start()
            await tenants.put_all(fleet.peer("control"), plan)
            reader = StartReader(fleet.data / "buckets" / tenants.BUCKET)
            await _phase(fleet, plan, reader, WARM_UP, plan.warm_up_seconds, seed, flooded=False)
            baseline = await _phase(fleet, plan, reader, BASELINE, plan.baseline_seconds, seed, flooded=False)
            flood = await _phase(fleet, plan, reader, FLOOD, plan.flood_seconds, seed, flooded=True)
            return Result(seed, baseline, flood, reader.repeated)
        finally:
            await fleet.stop()


async def _phase(
    fleet: EvenflowFleet, plan: Plan, reader: StartReader, phase: int, seconds: float, seed: int, *, flooded: bool
) -> Phase:
    sends = schedule(plan.rates(flooded=flooded), seconds, f"{seed} {phase}")
    cpu_before = sum(fleet.cpu_seconds().values())
    sent = await sender.send_all(
        fleet.grpc_address, sends, phase, plan.handler_ms, lambda tenant: tenants.key_of(plan, tenant)
    )
    cpu_seconds = sum(fleet.cpu_seconds().values()) - cpu_before
    if sent.refused:
        raise RuntimeError(f"{sent.refused} of {len(sends)} events were refused: {sent.first_refusal}")
    await _wait_quiet_started(reader, phase, [one for one in sends if one.tenant != NOISY])
    starts = reader.starts(phase)
    dwell_ms: dict[str, list[float]] = {}
    for one in sends:
        if one.number in starts:
            waited_ms = (starts[one.number] - sent.began_ns) / 1e6 - one.at_seconds * 1e3
            dwell_ms.setdefault(one.tenant, []).append(waited_ms)
    end_ns = sent.began_ns + int(seconds * 1e9)
    within = [one.tenant for one in sends if starts.get(one.number, end_ns) < end_ns]
    quiet = [ms for tenant, found in dwell_ms.items() if tenant not in (NOISY, BYSTANDER) for ms in found]
    return Phase(
        bystander=_dwell(dwell_ms[BYSTANDER]),
        quiet=_dwell(quiet),
        accept_p99_ms=quantile(sent.accept_ms[BYSTANDER], 0.99),
        sends=sent.sends,
        late=sent.late,
        refused=sent.refused,
        noisy_started_per_second=within.count(NOISY) / seconds,
        started_per_second=len(within) / seconds,
        fleet_cpu_seconds=cpu_seconds,
    )


async def _wait_quiet_started(reader: StartReader, phase: int, quiet: list[Send]) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while missing := sum(one.number not in reader.starts(phase) for one in quiet):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{missing} of {len(quiet)} quiet events have not begun {SETTLE_SECONDS:.0f} s later")
        await asyncio.sleep(POLL_SECONDS)


def _dwell(values: list[float]) -> Dwell:
    return Dwell(len(values), quantile(values, 0.5), quantile(values, 0.99), max(values))
