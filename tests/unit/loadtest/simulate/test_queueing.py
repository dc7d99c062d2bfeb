"""Queues on the virtual clock: what theory says of them, old depths, floods. Seeded, so that nothing is chance."""

import dataclasses
from typing import Any

import pytest

from loadtest.simulate import flood, theory
from loadtest.simulate.queueing import Scenario, run

QUICK = Scenario("random", shards=60, load=0.6, warm_up=60.0, length=800.0)


def test_one_choice_is_as_long_as_its_formula() -> None:
    """M/M/1, M/D/1 and M/G/1: mean response within 5 %."""
    assert run(QUICK).response == pytest.approx(theory.mean_response(0.6, 1), rel=0.05)
    fixed = dataclasses.replace(QUICK, service="fixed")
    assert run(fixed).response == pytest.approx(theory.mean_response_general(0.6, 0.0), rel=0.05)
    lognormal = dataclasses.replace(QUICK, service="lognormal", service_sigma=0.5)
    variance = 2.718281828**0.25 - 1
    assert run(lognormal).response == pytest.approx(theory.mean_response_general(0.6, variance), rel=0.05)


@pytest.mark.parametrize("policy, choices", [("best_of_two", 2), ("best_of_three", 3)])
def test_best_of_d_at_load_090(policy: str, choices: int) -> None:
    """Mean response, and the queue's tail where it is not negligible: within 5 %."""
    found = run(Scenario(policy, shards=100, load=0.9, warm_up=100.0, length=800.0))
    assert found.response == pytest.approx(theory.mean_response(0.9, choices), rel=0.05)
    assert found.tail[:3] == pytest.approx(theory.queue_tail(0.9, choices, 2), rel=0.05)
    # Little's law, between what was timed and what was counted.
    assert found.depth == pytest.approx(0.9 * found.response, rel=0.03)


def test_old_depths_herd_and_own_sends_mend_it() -> None:
    """Five service times old: 3.93 instead of 2.6 for best of two; the least of all is the worst choice then."""
    old = Scenario("best_of_two", report_age=5.0, warm_up=100.0, length=500.0)
    two = run(old).response
    assert two == pytest.approx(3.93, rel=0.08)
    assert run(dataclasses.replace(old, policy="global_least")).response > 2 * two
    own = dataclasses.replace(old, reports="own_sends", frontends=2)
    assert run(own).response < 0.95 * two
    # Exactly so old is older than so old at most.
    assert run(dataclasses.replace(old, reports="delayed")).response > 1.1 * two


def test_the_same_seed_is_the_same_run() -> None:
    """And another one is another."""
    short = dataclasses.replace(QUICK, length=50.0, policy="shuffle_quota", tenants=40, tenant_sigma=1.0, order="fair")
    assert run(short) == run(short) != run(dataclasses.replace(short, seed=1))


def test_a_slow_shard_is_given_less_by_best_of_two() -> None:
    """One of four drains at half the rate: best of two keeps it as deep as the others, random lets it overflow."""
    rates = (0.5, 1.0, 1.0, 1.0)
    base = Scenario("best_of_two", shards=4, load=0.8, drain_rates=rates, warm_up=50.0, length=1_500.0)
    assert run(base).tail[50] == 0.0
    assert run(dataclasses.replace(base, policy="random")).tail[50] > 0.1


def test_a_flood_meets_others_by_policy_and_waits_by_order() -> None:
    """Two shards wide, others hardly notice; spread over all, fair order still spares them."""
    found = {(one.name, one.order): one for one in flood.make([(800.0, 900.0)], shards=10, processes=1)}
    assert found["best of two", "fifo"].deep_part > 0.7
    assert found["hash", "fifo"].deep_part < 0.2
    assert found["shuffle shard, 2 wide", "fifo"].deep_part < 0.1
    for order in ("fifo", "fair"):
        assert found["best of two", order].deep_part == found["best of two", "fifo"].deep_part
    assert found["best of two", "fair"].response_p99 < found["best of two", "fifo"].response_p99 / 2


def test_bad_scenarios_are_refused_in_words() -> None:
    """Each with its bound."""
    for changed, text in (
        ({"shards": 0}, "0 shards"),
        ({"frontends": 65}, "1 to 64"),
        ({"load": 0.0}, "above 0"),
        ({"length": 1e9}, "at most"),
        ({"drain_rates": (1.0,)}, "1 drain rates"),
        ({"report_age": -1.0}, "at least 0"),
    ):
        with pytest.raises(ValueError, match=text):
            dataclasses.replace(QUICK, **changed)
    for field in ("service", "order", "reports", "policy"):
        wrong: dict[str, Any] = {field: "x"}
        with pytest.raises(ValueError, match="'x' is no"):
            run(dataclasses.replace(QUICK, **wrong))
