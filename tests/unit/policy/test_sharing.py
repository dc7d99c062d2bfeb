"""How limits are divided over hosts."""

from hypothesis import given
from hypothesis import strategies as st

from services.policy.sharing import ACCOUNT, Host, Share, divide, plan_targets

WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 50), min_size=1)


@given(amount=st.integers(0, 400), weights=WEIGHTS, seed=st.text(max_size=3))
def test_parts_add_up_and_keep_to_their_weights(amount: int, weights: dict[str, int], seed: str) -> None:
    """All of the amount or every weight in full; each part within one of its exact share."""
    parts = divide(amount, weights, {}, seed)
    total = sum(weights.values())
    assert sum(parts.values()) == min(amount, total)
    for name, part in parts.items():
        assert 0 <= part <= weights[name]
        if amount < total:
            assert abs(part - amount * weights[name] / total) < 1


def test_single_slots_of_many_small_limits_spread() -> None:
    """Reservations of 1 do not all land on one host."""
    first = [divide(1, {"a": 8, "b": 8}, {}, f"function/t/f{i}")["a"] for i in range(200)]
    assert 60 < sum(first) < 140


def test_who_has_a_part_keeps_it_between_equals() -> None:
    """A tie is no reason to move."""
    for seed in map(str, range(20)):
        assert divide(1, {"a": 8, "b": 8}, {"b": 1}, seed) == {"a": 0, "b": 1}


def settled(count: int) -> Share:
    return Share(count, count, True)


def test_first_targets_go_by_slots() -> None:
    """No host gets more than it has sandboxes."""
    hosts = {"a": Host(64), "b": Host(32)}
    assert plan_targets({ACCOUNT: 1_000}, hosts, {}, 1_000) == {(ACCOUNT, "a"): 64, (ACCOUNT, "b"): 32}
    assert plan_targets({ACCOUNT: 30}, hosts, {}, 30) == {(ACCOUNT, "a"): 20, (ACCOUNT, "b"): 10}


def test_an_unreachable_host_keeps_its_share_and_the_rest_is_divided() -> None:
    """What it may hold is not given to others."""
    shares = {(ACCOUNT, "lost"): settled(6)}
    assert plan_targets({ACCOUNT: 10}, {"a": Host(10), "b": Host(10)}, shares, 10) == {
        (ACCOUNT, "a"): 2,
        (ACCOUNT, "b"): 2,
    }


def test_a_leaving_host_gives_everything_back() -> None:
    """It is told 0; others rise once it returned something."""
    hosts = {"a": Host(10, is_leaving=True), "b": Host(10)}
    shares = {(ACCOUNT, "a"): settled(10)}
    assert plan_targets({ACCOUNT: 10}, hosts, shares, 10) == {(ACCOUNT, "a"): 0}
    shares = {(ACCOUNT, "a"): Share(0, 3, False)}
    assert plan_targets({ACCOUNT: 10}, hosts, shares, 10) == {(ACCOUNT, "b"): 7}


def test_a_reservation_is_filled_only_from_what_the_account_got_back() -> None:
    """All limits together never exceed the account's."""
    hosts = {"a": Host(100)}
    limits = {ACCOUNT: 6, "function/t/f": 4}
    taken = {(ACCOUNT, "a"): settled(10)}
    assert plan_targets(limits, hosts, taken, 10) == {(ACCOUNT, "a"): 6}
    back = {(ACCOUNT, "a"): Share(6, 8, False)}
    assert plan_targets(limits, hosts, back, 10) == {("function/t/f", "a"): 2}


def test_a_share_of_a_lifted_limit_is_taken_back() -> None:
    """A key that is no limit any more has target 0."""
    assert plan_targets({ACCOUNT: 0}, {"a": Host(5)}, {("function/t/f", "a"): settled(3)}, 10) == {
        ("function/t/f", "a"): 0
    }


def test_nothing_changes_when_everything_is_in_place() -> None:
    """A second plan is empty."""
    hosts = {"a": Host(7), "b": Host(5)}
    first = plan_targets({ACCOUNT: 9, "function/t/f": 1}, hosts, {}, 10)
    assert plan_targets({ACCOUNT: 9, "function/t/f": 1}, hosts, {k: settled(n) for k, n in first.items()}, 10) == {}
