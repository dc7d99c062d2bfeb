"""Static placement and the formulas it is checked with: within 5 %."""

import statistics

import pytest

from loadtest.simulate import policies, theory

pytestmark = pytest.mark.long


SHARDS, MEAN = 100, 25


def differences(policy: str, events_a_shard: int, seeds: int) -> float:
    """max - mean over the seeds; one tenant, as these policies look at none."""
    return statistics.fmean(
        policies.simulate(policies.Scenario(policy, SHARDS, 1, 0.0, events_a_shard, 0, seed))[1]
        for seed in range(seeds)
    )


def test_published_response_times() -> None:
    """10, 2.61 and 2.03 at load 0.9."""
    assert [round(theory.mean_response(0.9, d), 2) for d in (1, 2, 3)] == [10.0, 2.61, 2.03]
    assert theory.mean_response_general(0.9, 1.0) == pytest.approx(10.0)
    assert theory.queue_tail(0.9, 2, 3) == pytest.approx([1.0, 0.9, 0.9**3, 0.9**7])


def test_the_maximum_of_random_is_within_5_percent() -> None:
    """max - mean by the exact distribution, as the mean hides errors of the maximum; the asymptote is above it."""
    found = differences("random", MEAN, 60)
    assert found == pytest.approx(theory.random_max(SHARDS, MEAN) - MEAN, rel=0.05)
    assert theory.random_max_asymptotic(SHARDS, MEAN) - MEAN > 1.05 * found


def test_the_exact_maximum_on_a_case_that_can_be_counted() -> None:
    """Two shards, two events each, taken as independent: P(max <= k) is the square of a binomial's."""
    below = [1 / 16, 5 / 16, 11 / 16, 15 / 16, 1.0]
    assert theory.random_max(2, 2) == pytest.approx(sum(1 - part**2 for part in below))


@pytest.mark.parametrize("policy, choices", [("best_of_two", 2), ("best_of_three", 3)])
def test_best_of_d_is_within_5_percent_and_does_not_grow_with_the_events(policy: str, choices: int) -> None:
    """max - mean by the fluid limit, with few and with many events a shard."""
    few, many = differences(policy, 10, 60), differences(policy, 30, 60)
    assert few == pytest.approx(theory.best_of_max(SHARDS, 10, choices) - 10, rel=0.05)
    assert many == pytest.approx(theory.best_of_max(SHARDS, 30, choices) - 30, rel=0.05)


def test_more_shards_cost_what_the_formula_says() -> None:
    """The fluid limit's max - mean grows by ln ln n / ln 2, the constant aside."""
    grown = theory.best_of_max(100_000, 20, 2) - theory.best_of_max(100, 20, 2)
    assert grown == pytest.approx(theory.best_of_growth(100_000, 2) - theory.best_of_growth(100, 2), abs=0.4)
