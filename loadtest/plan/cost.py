"""What a million events cost here, beside what AWS would charge for the same handler. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.plan.best_rate import BestRate
from loadtest.plan.demand import Demand
from loadtest.plan.measured import Measured
from loadtest.plan.readings import told_handler_seconds
from loadtest.plan.replicas import MAX_UTILISATION
from services.policy import prices

_MILLION = 1_000_000
_HOUR_SECONDS = 3_600
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Prices:
    """Of rented capacity: an assumption. Default: what AWS Fargate's list price for Linux on x86 in us-east-1 was at
    the time of writing (https://aws.amazon.com/fargate/pricing/ has today's), so that both columns are one vendor's. A
    machine of one's own costs less."""

    core_hour_usd: float = 0.04048
    gib_hour_usd: float = 0.004445

    def __post_init__(self) -> None:
        """ValueError: a price below 0."""
        if min(self.core_hour_usd, self.gib_hour_usd) < 0:
            raise ValueError("a price is at least 0")


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars a million events, at `per_second`.

    cpu_usd: of the cores that this rate keeps busy, paid for so that MAX_UTILISATION of them is used; memory_usd: of
    what the fleet held (None: not measured, or not of every process). aws_*: of the same handler on Lambda: its
    requests, and its billed time (whole ms) at its memory size.
    """

    per_second: float
    prices: Prices
    cores: float
    cpu_usd: float
    memory_usd: float | None
    aws_requests_usd: float
    aws_compute_usd: float
    aws_billed_ms: int
    function_memory_mb: int

    @property
    def total_usd(self) -> float:
        """CPU and, where measured, memory."""
        return self.cpu_usd + (self.memory_usd or 0.0)

    @property
    def aws_total_usd(self) -> float:
        """Requests and compute."""
        return self.aws_requests_usd + self.aws_compute_usd


def cost(
    measured: Measured,
    best: BestRate,
    demands: Mapping[str, Demand],
    slot_seconds_an_event: float | None,
    paid: Prices,
) -> Cost | None:
    """See Cost; None: no rate held, or no demand is known."""
    if not best.per_second or not demands:
        return None
    hours_a_million = _MILLION / best.per_second / _HOUR_SECONDS
    cores = sum(demand.cores(best.per_second) for demand in demands.values())
    memory = None
    if measured.memory_bytes and not measured.memory_unread:
        memory = sum(measured.memory_bytes.values()) / _GIB * paid.gib_hour_usd * hours_a_million
    handler_seconds = told_handler_seconds(measured.spec)
    if handler_seconds is None:
        handler_seconds = slot_seconds_an_event or 0.0
    billed_ms = max(1, math.ceil(handler_seconds * 1_000 - 1e-9))
    work = measured.spec.work
    payload_bytes = (work.pad_bytes + max(work.pad_bytes, work.pad_bytes_max)) // 2
    units = prices.request_units(payload_bytes, is_sync=measured.spec.synchronous)
    charged = prices.charge(units * _MILLION, billed_ms * measured.function_memory_mb * _MILLION)
    return Cost(
        per_second=best.per_second,
        prices=paid,
        cores=cores,
        cpu_usd=cores / MAX_UTILISATION * paid.core_hour_usd * hours_a_million,
        memory_usd=memory,
        aws_requests_usd=float(charged.requests_usd),
        aws_compute_usd=float(charged.compute_usd),
        aws_billed_ms=billed_ms,
        function_memory_mb=measured.function_memory_mb,
    )
