"""Which AWS resources a tenant may name, which the fleet then reaches with its own credentials."""

import pytest

from services.policy.neighbour_rules import check_neighbours, s3_arn, why_not
from services.policy.rules import RuleBroken

QUEUES = "arn:aws:sqs:*:*:acme-*"
ORDERS = "arn:aws:sqs:us-east-1:123456789012:acme-orders"
FOREIGN = "arn:aws:sqs:us-east-1:123456789012:orders"


@pytest.mark.parametrize(
    ("tenant_id", "neighbours", "arn", "is_allowed"),
    [
        ("default", (), FOREIGN, True),
        ("acme", (), ORDERS, False),
        ("acme", (QUEUES,), ORDERS, True),
        ("acme", (QUEUES,), FOREIGN, False),
        ("acme", (FOREIGN, QUEUES), FOREIGN, True),
        ("acme", ("*",), FOREIGN, True),
        ("acme", ("arn:aws:s3:::acme-*",), s3_arn("acme-code", "app.zip"), True),
        ("acme", ("arn:aws:s3:::acme-code",), s3_arn("acme-code", "app.zip"), False),
        ("acme", (), "arn:aws:lambda:us-east-1:123456789012:function:next", True),
        ("acme", (), "arn:aws:events:us-east-1:123456789012:event-bus/lambda", False),
    ],
)
def test_a_tenant_names_what_is_listed_for_it(
    tenant_id: str, neighbours: tuple[str, ...], arn: str, is_allowed: bool
) -> None:
    """The default tenant may name everything; functions are no neighbours."""
    refused = why_not(tenant_id, neighbours, arn)
    assert (refused is None) is is_allowed
    assert refused is None or f"evenflow tenants neighbours {tenant_id}" in refused


def test_a_neighbour_is_a_pattern_of_arns() -> None:
    """A bare * is one."""
    check_neighbours(["*", QUEUES] * 50)
    for wrong in ([""], ["acme-*"], ["arn:" + "x" * 2_045], ["*"] * 101):
        with pytest.raises(RuleBroken, match="neighbours: "):
            check_neighbours(wrong)
