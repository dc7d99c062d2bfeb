"""Shares: never more than the target runs, and what is held is reported truly."""

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.admission import Shares, limit_key_of


def test_nothing_runs_before_the_first_target() -> None:
    """An unknown limit has no room."""
    shares = Shares(lambda _key, _held, _failure: None)
    assert not shares.take("account") and shares.free("account") == 0 and not shares.is_known("account")


def test_a_reserved_function_counts_against_its_own_limit() -> None:
    """And only against it."""
    assert limit_key_of("t", "f", True) == "function/t/f"
    assert limit_key_of("t", "f", False) == "account"


@given(st.lists(st.one_of(st.integers(0, 5), st.sampled_from(["take", "give"])), max_size=60))
def test_the_share_holds_in_every_order(steps: list[int | str]) -> None:
    """What runs is within the highest of the target and what ran when it fell; held = max(target, in use)."""
    held = {"account": 0}
    shares = Shares(lambda key, amount, _failure: held.__setitem__(key, amount))
    target = in_use = 0
    for step in steps:
        if step == "take":
            taken = shares.take("account")
            assert taken == (in_use < target)
            in_use += taken
        elif step == "give":
            if in_use:
                shares.give_back("account")
                in_use -= 1
        else:
            target = int(step)
            shares.set_target("account", target)
        assert held["account"] == max(target, in_use)


def test_what_is_kept_for_ready_sandboxes_is_given_to_nobody_else() -> None:
    """Until they take it, or are gone; and they take no more than there is."""
    shares = Shares(lambda _key, _held, _failure: None)
    shares.set_target("account", 3)
    shares.keep("account", 2)
    assert shares.free("account") == 1
    assert shares.take("account") and not shares.take("account")
    assert shares.take_kept("account", "account") and not shares.take("account")
    assert shares.take_kept("account", "account") and not shares.take_kept("account", "account")
    for _ in range(3):
        shares.give_back("account")
    assert shares.free("account") == 3
    shares.keep("account", 5)
    assert shares.free("account") == 0 and shares.take_kept("account", "account")
    assert not shares.is_known("function/t/f")
    shares.keep("function/t/f", 1)
    assert not shares.is_known("function/t/f") and not shares.take_kept("function/t/f", "function/t/f")
