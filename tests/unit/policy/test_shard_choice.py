"""Shard choice against the published laws, over many seeds."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.shard_choice import (
    POLICIES,
    RAMP_MS,
    Depths,
    draw_distinct,
    make_choice,
    shuffle_set,
    shuffle_width,
)


def excess(policy: str, seed: int, shards: int = 64, per_shard: int = 50, tenants: int = 200, d: int = 2) -> float:
    """max - mean depth after filling empty shards from tenants of skewed size."""
    source = random.Random(seed)
    sizes = [source.lognormvariate(0, 2.0) for _ in range(tenants)]
    names = [f"tenant-{i}" for i in range(tenants)]
    total = sum(sizes)
    choice, depths = make_choice(policy, d), Depths(shards)
    for index in source.choices(range(tenants), sizes, k=shards * per_shard):
        shard_id = choice.choose(names[index], sizes[index] / total, depths, source.random, 0.0)
        assert shard_id is not None
        depths.sent(shard_id)
    return max(depths.estimates) - per_shard


def mean_excess(policy: str, d: int = 2) -> float:
    return sum(excess(policy, seed, d=d) for seed in range(20)) / 20


def test_policies_stand_in_their_published_order() -> None:
    """max - mean over 20 seeds: hash far above random, random far above best of two; more choices gain little."""
    of = {policy: mean_excess(policy) for policy in POLICIES}
    assert of["hash"] > 5 * of["random"] > 25 * of["best_of_two"] / 2
    assert of["best_of_two"] < 4
    assert of["best_of_two"] < of["shuffle_shard"] < of["hash"]
    assert mean_excess("best_of_d", 4) <= of["best_of_two"]


@pytest.mark.parametrize("policy", POLICIES)
@given(down=st.sets(st.integers(0, 7)), seed=st.integers(0, 1_000))
def test_only_healthy_shards_are_chosen(policy: str, down: set[int], seed: int) -> None:
    """None only when there is no candidate; shuffle shards never leave their set."""
    depths = Depths(8)
    for shard_id in down:
        depths.set_healthy(shard_id, False, 0.0)
    chosen = make_choice(policy).choose("t", 0.1, depths, random.Random(seed).random, 0.0)
    allowed = set(range(8)) - down
    if policy == "shuffle_shard":
        allowed &= set(shuffle_set("t", shuffle_width(0.1, 8), 8))
    assert (chosen in allowed) if allowed else (chosen is None)


@given(st.text(max_size=20), st.integers(1, 500), st.integers(0, 500), st.integers(0, 9))
def test_a_shuffle_set_is_stable_and_grows_from_itself(tenant: str, shards: int, width: int, seed: int) -> None:
    """Distinct members within range; a wider set begins with the narrower one."""
    found = shuffle_set(tenant, width, shards, seed)
    assert len(set(found)) == len(found) == min(width, shards)
    assert all(0 <= s < shards for s in found)
    assert shuffle_set(tenant, width + 3, shards, seed)[: len(found)] == found


def test_shuffle_sets_are_spread_evenly() -> None:
    """No shard is in far more sets than another, and a tenant's set is pinned for good."""
    counts = [0] * 50
    for i in range(5_000):
        for shard_id in shuffle_set(f"t{i}", 2, 50):
            counts[shard_id] += 1
    assert max(counts) < 1.35 * 200 and min(counts) > 0.65 * 200
    assert shuffle_set("default", 3, 8) == shuffle_set("default", 8, 8)[:3]


@pytest.mark.parametrize(("share", "shards", "width"), [(0.0, 100, 2), (0.01, 100, 4), (0.5, 100, 100), (0.3, 1, 1)])
def test_the_width_follows_the_quota(share: float, shards: int, width: int) -> None:
    """max(2, ceil(4 * p * N)), at most all."""
    assert shuffle_width(share, shards) == width


def test_draws_are_distinct_and_fair() -> None:
    """Every pair is as likely as every other."""
    source = random.Random(7)
    counts: dict[frozenset[int], int] = {}
    for _ in range(6_000):
        pair = frozenset(draw_distinct(range(4), 2, source.random))
        assert len(pair) == 2
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 6 and all(850 < n < 1_150 for n in counts.values())


def test_own_sends_count_until_they_are_answered() -> None:
    """A report does not forget what is still on its way; an answer brings the shard's own count."""
    depths = Depths(2)
    depths.sent(0, 5)
    depths.report(0, 100)
    assert depths.estimates == [105, 0]
    depths.answered(0, 5, depth=104)
    assert depths.estimates[0] == 104
    depths.sent(0)
    depths.answered(0, 1)
    assert depths.estimates[0] == 104


def fraction(depths: Depths, choose: Callable[[], int | None], shard_id: int) -> float:
    return sum(choose() == shard_id for _ in range(4_000)) / 4_000


def test_a_shard_that_comes_back_ramps_up() -> None:
    """Empty beside deep ones it would win every draw; its share grows with the time instead."""
    depths, source, choice = Depths(10), random.Random(3), make_choice("best_of_two")
    for shard_id in range(1, 10):
        depths.report(shard_id, 1_000)
    depths.set_healthy(0, False, 0.0)
    depths.set_healthy(0, True, 100.0)
    shares = []
    for now_ms in (100.0, 100.0 + RAMP_MS / 2, 101.0 + RAMP_MS):
        share = fraction(depths, lambda at=now_ms: choice.choose("t", 0.0, depths, source.random, at), 0)  # type: ignore[misc]
        shares.append(share)
    assert shares[0] == 0 and 0.07 < shares[1] < 0.13 and 0.17 < shares[2] < 0.23


def test_the_first_start_needs_no_ramp() -> None:
    """All shards of a fresh frontend begin together."""
    depths = Depths(4, healthy=False)
    assert make_choice("random").choose("t", 0.0, depths, random.random, 0.0) is None
    depths.set_healthy(2, True, 50.0)
    assert depths.ramp(2, 50.0) == 1.0
    assert make_choice("best_of_two").choose("t", 0.0, depths, random.random, 50.0) == 2


def test_an_unknown_policy_is_named() -> None:
    """With the choices."""
    with pytest.raises(ValueError, match=r"'best'.*best_of_two"):
        make_choice("best")
