"""How much may be reserved and provisioned, each bound from both sides and in AWS's words."""

import pytest

from services.policy.concurrency_rules import Taken, check_provisioned, check_reservation
from services.policy.rules import RuleBroken

NOTHING = Taken(0, 0)


@pytest.mark.parametrize(
    ("reserved", "provisioned", "others"),
    [(900, 0, NOTHING), (400, 0, Taken(500, 0)), (390, 0, Taken(500, 10)), (5, 5, NOTHING), (0, 0, Taken(900, 0))],
)
def test_what_leaves_100_may_be_reserved(reserved: int, provisioned: int, others: Taken) -> None:
    """900 of 1,000 in all, what others have provisioned counted; 0 always."""
    check_reservation(reserved, provisioned, others, 1_000)


@pytest.mark.parametrize(
    ("reserved", "provisioned", "others", "text"),
    [
        (401, 0, Taken(500, 0), r"below its minimum value of \[100\]; at most 400 can"),
        (391, 0, Taken(500, 10), r"at most 390 can"),
        (1, 0, Taken(900, 50), r"at most 0 can"),
        (4, 5, NOTHING, r"Executions 4 should not be lower than function's total provisioned concurrency \[5\]"),
        (0, 5, NOTHING, r"should not be lower than function's total provisioned concurrency \[5\]"),
    ],
)
def test_what_does_not_is_refused(reserved: int, provisioned: int, others: Taken, text: str) -> None:
    """Nor may a reservation be smaller than what is kept ready."""
    with pytest.raises(RuleBroken, match=text) as refused:
        check_reservation(reserved, provisioned, others, 1_000)
    assert refused.value.field_name == "reserved_concurrency"


@pytest.mark.parametrize(
    ("provisioned", "reserved", "others"),
    [(900, None, NOTHING), (7, 7, Taken(993, 0)), (100, None, Taken(700, 100)), (0, None, Taken(950, 0))],
)
def test_provisioned_fits_the_reservation_or_the_unreserved_part(
    provisioned: int, reserved: int | None, others: Taken
) -> None:
    """100 stay for everybody; within a reservation nothing else is asked."""
    check_provisioned(provisioned, reserved, others, 1_000)


@pytest.mark.parametrize(
    ("provisioned", "reserved", "others", "text"),
    [
        (8, 7, NOTHING, "^Requested Provisioned Concurrency should not be greater than the reserved"),
        (901, None, NOTHING, r"^Specified ConcurrentExecutions .* below its minimum value of \[100\]\.$"),
        (101, None, Taken(700, 100), r"below its minimum value of \[100\]\.$"),
        (1_001, None, NOTHING, r"is greater than account's unreserved concurrency \[1000\]\.$"),
    ],
)
def test_too_much_provisioned_is_refused_in_awss_words(
    provisioned: int, reserved: int | None, others: Taken, text: str
) -> None:
    """The text begins and ends as AWS's does."""
    with pytest.raises(RuleBroken, match=text):
        check_provisioned(provisioned, reserved, others, 1_000)
