"""Queues on the virtual clock: what theory says of them, old depths, floods. Seeded, so that nothing is chance."""

import dataclasses
from typing import Any

import pytest

from loadtest.simulate import flood, theory
from loadtest.simulate.queueing import DEEPEST, Scenario, p99_text, run

pytestmark = pytest.mark.long


QUICK = Scenario("random", shards=60, load=0.6, warm_up=40.0, length=500.0)


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
    old = Scenario("best_of_two", report_age=5.0, warm_up=50.0, length=250.0)
    two = run(old).response
    assert two == pytest.approx(3.93, rel=0.08)
    assert run(dataclasses.replace(old, policy="global_least")).response > 2 * two
    own = dataclasses.replace(old, reports="own_sends", frontends=2)
    assert run(own).response < 0.95 * two
    # Exactly so old is older than so old at most.
    assert run(dataclasses.replace(old, reports="delayed")).response > 1.1 * two


def test_events_that_never_end_count_with_their_age() -> None:
    """At twice the capacity half never ends: p99 is among those, and the mean is not that of the lucky ones."""
    found = run(Scenario("random", shards=4, load=2.0, warm_up=0.0, length=400.0))
    assert found.never_ended == pytest.approx(0.5, abs=0.05)
    assert found.response_p99_most is None
    # The oldest that waits came at about half of the run; those that ended waited less.
    assert found.response_p99 > 180
    assert p99_text(found.response_p99, found.response_p99_most).startswith("> ")
    calm = run(dataclasses.replace(QUICK, length=400.0))
    assert calm.response_p99_most is not None and calm.response_p99 <= calm.response_p99_most
    assert 0 < calm.never_ended < 0.05
    assert p99_text(10.0, 10.04) == "10.0"
    assert p99_text(10.0, 12.0) == "10.0 to 12.0"


def test_the_depth_has_no_cap() -> None:
    """Ten times the capacity of one shard: the tail ends at DEEPEST, the mean depth goes on."""
    found = run(Scenario("random", shards=1, load=10.0, warm_up=300.0, length=100.0))
    assert found.depth == pytest.approx(9 * 350, rel=0.05)
    assert found.tail[DEEPEST] == 1.0


def test_how_ties_are_broken_decides_how_the_least_of_all_herds() -> None:
    """The first of the equals is everybody's while a board stands."""
    old = Scenario("global_least", report_age=5.0, warm_up=20.0, length=60.0)
    assert run(dataclasses.replace(old, policy="global_least_first")).response > 3 * run(old).response


def test_the_same_seed_is_the_same_run() -> None:
    """And another one is another."""
    short = dataclasses.replace(QUICK, length=50.0, policy="shuffle_quota", tenants=40, tenant_sigma=1.0, order="fair")
    assert run(short) == run(short) != run(dataclasses.replace(short, seed=1))


def test_a_slow_shard_is_given_less_by_best_of_two() -> None:
    """One of four drains at half the rate: best of two keeps it as deep as the others, random lets it overflow."""
    rates = (0.5, 1.0, 1.0, 1.0)
    base = Scenario("best_of_two", shards=4, load=0.8, drain_rates=rates, warm_up=50.0, length=800.0)
    assert run(base).tail[50] == 0.0
    assert run(dataclasses.replace(base, policy="random")).tail[50] > 0.03


def test_a_flood_meets_others_by_policy_and_waits_by_order() -> None:
    """Two shards wide, others hardly notice; spread over all, fair order still spares them."""
    found = {(one.name, one.order): one for one in flood.make([(800.0, 900.0)], shards=6, processes=1)}
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
