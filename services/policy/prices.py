"""What AWS would charge for the same runs. Exact: whole units in, decimal dollars out.

Source: https://aws.amazon.com/lambda/pricing/ (x86, on demand, US East, first tier, without the free tier).
"""

from dataclasses import dataclass
from decimal import Decimal

USD_PER_MILLION_REQUESTS = Decimal("0.20")
USD_PER_GB_SECOND = Decimal("0.0000166667")
# An asynchronous event counts one request for its first 256 KB and one for each 64 KB after.
FIRST_REQUEST_BYTES = 262_144
FURTHER_REQUEST_BYTES = 65_536
# Usage is counted in MB-milliseconds: memory size times billed time. AWS's GB has 1,024 MB.
MB_MS_OF_A_GB_SECOND = 1_024 * 1_000


@dataclass(frozen=True, slots=True)
class Charge:
    """Dollars for requests and for compute."""

    requests_usd: Decimal
    compute_usd: Decimal

    @property
    def total_usd(self) -> Decimal:
        """Both."""
        return self.requests_usd + self.compute_usd


def request_units(payload_bytes: int, *, is_sync: bool) -> int:
    """Requests that one run is charged as; a synchronous one is always one."""
    if is_sync or payload_bytes <= FIRST_REQUEST_BYTES:
        return 1
    return 1 + -(-(payload_bytes - FIRST_REQUEST_BYTES) // FURTHER_REQUEST_BYTES)


def gb_seconds(mb_ms: int) -> Decimal:
    """Memory size times billed time in AWS's unit."""
    return Decimal(mb_ms) / MB_MS_OF_A_GB_SECOND


def charge(units: int, mb_ms: int) -> Charge:
    """What so many request units and so much compute would cost."""
    return Charge(USD_PER_MILLION_REQUESTS * units / 1_000_000, USD_PER_GB_SECOND * gb_seconds(mb_ms))
