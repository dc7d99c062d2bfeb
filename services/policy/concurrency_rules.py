"""How much concurrency may be reserved. Pure; RuleBroken says what to do."""

from services.policy.rules import RuleBroken

MIN_UNRESERVED = 100


def check_reservation(reserved: int, reserved_by_others: int, account_limit: int) -> None:
    """Pass when at least 100 of the account stay unreserved; 0 (nothing runs) always may. RuleBroken."""
    if reserved and account_limit - reserved_by_others - reserved < MIN_UNRESERVED:
        most = max(0, account_limit - reserved_by_others - MIN_UNRESERVED)
        raise RuleBroken(
            "reserved_concurrency",
            f"{reserved:,} would decrease the account's UnreservedConcurrentExecution below its minimum value of "
            f"[{MIN_UNRESERVED}]; at most {most:,} can be reserved now",
        )
