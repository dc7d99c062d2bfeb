"""What a run is billed: by the host's clock; a sandbox that lies gains less than the step of a bill."""

import pytest

from services.runtime.runs import MAX_UNBILLED_US, duration_us_of


@pytest.mark.parametrize(
    ("claimed_us", "elapsed_us", "duration_us"),
    [
        (5_000, 5_300, 5_000),  # honest, on a host that is at leisure
        (1, 2_000_000, 2_000_000),  # forged
        (0, 900, 0),  # too short to tell, and billed as 1 ms anyway
        (9_000_000, 4_000, 4_000),  # forged upwards
        (4_000, 4_000 + MAX_UNBILLED_US, 4_000),
        (4_000, 4_001 + MAX_UNBILLED_US, 5_001),
    ],
)
def test_the_hosts_clock_decides(claimed_us: int, elapsed_us: int, duration_us: int) -> None:
    assert duration_us_of(claimed_us, elapsed_us, has_next=False) == duration_us


def test_runs_whose_results_come_together_share_the_hosts_time() -> None:
    """Whatever each of them claims: together it is what passed."""
    for claims in ([300, 300, 300], [0, 0, 0], [9_999, 0, 0], [0, 9_999, 9_999]):
        left_us, billed_us = 6_000, 0
        for n, claimed_us in enumerate(claims):
            duration_us = duration_us_of(claimed_us, left_us, has_next=n < len(claims) - 1)
            billed_us += duration_us
            left_us -= duration_us
        assert billed_us == 6_000
