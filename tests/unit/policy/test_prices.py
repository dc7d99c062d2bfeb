"""What AWS charges."""

from decimal import Decimal

import pytest

from services.policy.prices import charge, gb_seconds, request_units


@pytest.mark.parametrize(
    ("payload_bytes", "units"),
    [(0, 1), (262_144, 1), (262_145, 2), (327_680, 2), (327_681, 3), (1_048_576, 13)],
)
def test_an_event_counts_one_request_and_one_for_each_further_64_kb(payload_bytes: int, units: int) -> None:
    """A synchronous run of any size counts one."""
    assert request_units(payload_bytes, is_sync=False) == units
    assert request_units(payload_bytes, is_sync=True) == 1


def test_the_numbers_of_the_price_list() -> None:
    """A million requests are 20 cents; a second of 1,024 MB is one GB-second."""
    assert charge(1_000_000, 0).total_usd == Decimal("0.20")
    assert gb_seconds(1_024 * 1_000) == 1
    assert charge(0, 1_024 * 1_000).compute_usd == Decimal("0.0000166667")


def test_an_example_of_the_price_page() -> None:
    """3 million runs of 120 ms at 1,536 MB, without the free tier: 9.00 for compute, 0.60 for requests."""
    cost = charge(3_000_000, 3_000_000 * 120 * 1_536)
    assert cost.requests_usd == Decimal("0.6")
    assert round(cost.compute_usd, 2) == Decimal("9.00")
    assert cost.total_usd == cost.requests_usd + cost.compute_usd
