"""Which AWS resources a tenant may name: the fleet reaches every tenant's with the same credentials. Pure."""

from collections.abc import Sequence

from services.policy.accounts import DEFAULT_TENANT
from services.policy.patterns import matches
from services.policy.rules import RuleBroken, at_most

FIELD_NAME = "neighbours"
MAX_NEIGHBOURS = 100
MAX_PATTERN_CHARACTERS = 2_048
_ANY = "*"


def check_neighbours(patterns: Sequence[str]) -> None:
    """Pass for patterns of ARNs. RuleBroken."""
    if len(patterns) > MAX_NEIGHBOURS:
        raise RuleBroken(FIELD_NAME, f"at most {MAX_NEIGHBOURS}, not {len(patterns)}: use patterns with *")
    for pattern in patterns:
        at_most(FIELD_NAME, pattern, MAX_PATTERN_CHARACTERS)
        if pattern != _ANY and not pattern.startswith("arn:"):
            text = f"{pattern[:80]!r} is no pattern of ARNs such as arn:aws:sqs:*:*:NAME-*, and not * for everything"
            raise RuleBroken(FIELD_NAME, text)


def why_not(tenant_id: str, neighbours: Sequence[str], arn: str) -> str | None:
    """None: the tenant may name it, as it may any function's ARN. Else the sentence for who asked."""
    if tenant_id == DEFAULT_TENANT or arn.split(":")[2:3] == ["lambda"]:
        return None
    if any(matches(pattern, arn) for pattern in neighbours):
        return None
    return (
        f"tenant {tenant_id!r} may not name {arn[:300]}: who runs the fleet can allow it with "
        f"`evenflow tenants neighbours {tenant_id} PATTERN...`"
    )


def s3_arn(bucket: str, key: str) -> str:
    """The ARN of an object."""
    return f"arn:aws:s3:::{bucket}/{key}"
