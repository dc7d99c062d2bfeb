"""How much concurrency may be reserved and provisioned. Pure; RuleBroken says what to do.

A function's provisioned concurrency is within its reservation, if it has one; else it is taken from the account's
unreserved part, of which 100 stay for everybody.
"""

from dataclasses import dataclass

from services.policy.rules import RuleBroken

MIN_UNRESERVED = 100
_REQUESTED = "requested"
_RESERVED = "the reservedConcurrentExecution"


@dataclass(frozen=True, slots=True)
class Taken:
    """What other functions have of the account: reserved, and provisioned without a reservation."""

    reserved: int
    provisioned: int


def check_reservation(reserved: int, provisioned: int, others: Taken, account_limit: int) -> None:
    """Pass when at least 100 of the account stay unreserved (0, nothing runs, always may) and the function's own
    provisioned concurrency fits in. RuleBroken.
    """
    if reserved < provisioned:
        text = (
            f"ReservedConcurrentExecutions {reserved} should not be lower than function's total provisioned "
            f"concurrency [{provisioned}]."
        )
        raise RuleBroken("reserved_concurrency", text, is_whole=True)
    left = account_limit - others.reserved - others.provisioned
    if reserved and left - reserved < MIN_UNRESERVED:
        raise RuleBroken(
            "reserved_concurrency",
            f"{reserved:,} would decrease the account's UnreservedConcurrentExecution below its minimum value of "
            f"[{MIN_UNRESERVED}]; at most {max(0, left - MIN_UNRESERVED):,} can be reserved now",
        )


def check_provisioned(provisioned: int, reserved: int | None, others: Taken, account_limit: int) -> None:
    """Pass when all that is provisioned of a function fits: in its reservation, or in what others left. RuleBroken."""
    if reserved is not None:
        if provisioned > reserved:
            text = f"Requested Provisioned Concurrency should not be greater than {_RESERVED} for function"
            raise RuleBroken(_REQUESTED, text, is_whole=True)
        return
    left = account_limit - others.reserved - others.provisioned
    if provisioned > left:
        text = f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
        raise RuleBroken(_REQUESTED, text, is_whole=True)
    if provisioned and left - provisioned < MIN_UNRESERVED:
        text = (
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{MIN_UNRESERVED}]."
        )
        raise RuleBroken(_REQUESTED, text, is_whole=True)
