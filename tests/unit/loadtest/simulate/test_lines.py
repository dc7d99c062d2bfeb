"""Who is next in a shard."""

import pytest

from loadtest.simulate import lines
from loadtest.simulate.lines import Waiting
from services.policy.fair import QUANTUM


def names(order: str, tenants: list[int]) -> list[int]:
    line = lines.make(order)
    for number, tenant in enumerate(tenants):
        line.append(Waiting(float(number), tenant, True))
    assert len(line) == len(tenants)
    return [line.popleft().tenant for _ in tenants]


def test_fifo_is_the_order_of_arrival() -> None:
    """Whoever it is."""
    assert names("fifo", [1, 1, 2, 1, 3]) == [1, 1, 2, 1, 3]


def test_a_flooding_tenant_delays_another_by_one_turn() -> None:
    """The policy's quantum of the flood goes first, then the other's."""
    found = names("fair", [1] * 20 + [2])
    assert found.index(2) == QUANTUM
    assert sorted(found) == [1] * 20 + [2]


def test_an_empty_line_and_an_unknown_order() -> None:
    """Both are refused."""
    for order in lines.ORDERS:
        with pytest.raises(IndexError):
            lines.make(order).popleft()
    with pytest.raises(ValueError, match="no order"):
        lines.make("lifo")
