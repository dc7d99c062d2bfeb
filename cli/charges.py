"""Usage rows of every host, added up and priced. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evenflow.runtime.v1 import runtime_pb2

from services.policy import prices

BY = ("function", "tenant", "day")
SEVERAL = "(several)"
EARLIER = "(earlier)"
USD_DIGITS = Decimal("0.00000001")


@dataclass(slots=True)
class Use:
    """Sums over some rows; see UsageRow of runtime.proto."""

    invocations: int = 0
    request_units: int = 0
    billed_ms: int = 0
    mb_ms: int = 0
    errors: int = 0
    init_ms: int = 0
    charge: prices.Charge = field(init=False)

    def __post_init__(self) -> None:
        self._price()

    def add(self, row: runtime_pb2.UsageRow) -> None:
        """One row more."""
        self.invocations += row.invocations
        self.request_units += row.request_units
        self.billed_ms += row.billed_ms
        self.mb_ms += row.mb_ms
        self.errors += row.errors
        self.init_ms += row.init_ms
        self._price()

    def _price(self) -> None:
        self.charge = prices.charge(self.request_units, self.mb_ms)

    def as_dictionary(self) -> dict[str, Any]:
        """For programs: dollars as decimal text, so that nothing is rounded."""
        return {
            "invocations": self.invocations,
            "errors": self.errors,
            "requests": self.request_units,
            "billed_ms": self.billed_ms,
            "mb_ms": self.mb_ms,
            "gb_seconds": f"{prices.gb_seconds(self.mb_ms):f}",
            "init_ms": self.init_ms,
            "requests_usd": usd(self.charge.requests_usd),
            "compute_usd": usd(self.charge.compute_usd),
            "total_usd": usd(self.charge.total_usd),
        }


def name_of(row: runtime_pb2.UsageRow, by: str) -> tuple[str, ...]:
    """What the row is counted under: tenant and function, tenant, or day."""
    if by == "day":
        return (row.day or EARLIER,)
    tenant = row.tenant_id or SEVERAL
    return (tenant,) if by == "tenant" else (tenant, row.function_name or SEVERAL)


def summarise(rows: Iterable[runtime_pb2.UsageRow], by: str) -> tuple[dict[tuple[str, ...], Use], Use]:
    """Sums by name, the dearest first (days in order), and the sum of all."""
    sums: dict[tuple[str, ...], Use] = {}
    total = Use()
    for row in rows:
        sums.setdefault(name_of(row, by), Use()).add(row)
        total.add(row)
    if by == "day":
        return dict(sorted(sums.items())), total
    return dict(sorted(sums.items(), key=lambda one: (-one[1].charge.total_usd, one[0]))), total


def usd(amount: Decimal) -> str:
    """Dollars with eight digits: a single run costs about a ten-millionth."""
    return f"{amount.quantize(USD_DIGITS):f}"
