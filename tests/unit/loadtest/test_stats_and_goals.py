"""Figures of repeats, and goals."""

import pytest

from loadtest.bench import rows, stats
from loadtest.bench.goals import Goal, Kind, judge


def test_a_summary_is_the_median_with_the_extremes() -> None:
    """An even number of repeats has the mean of the middle two; its middle half does not widen with the repeats."""
    assert stats.summarize([4.0, 1.0, 3.0, 2.0]) == stats.Summary(2.5, 1.0, 4.0, 4, 1.75, 3.25)
    assert stats.summarize([4.0, 1.0, 3.0, 2.0] * 25).middle_half == (1.75, 3.25)
    assert stats.summarize([2.0]).middle_half == stats.Summary(2.0, 2.0, 2.0, 1).middle_half == (2.0, 2.0)


def test_nothing_measured_has_no_summary() -> None:
    """An empty series is an error, never a zero."""
    with pytest.raises(ValueError, match="nothing was measured"):
        stats.summarize([])
    with pytest.raises(ValueError, match="nothing was measured"):
        stats.quantile([], 0.5)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_a_quantile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    """The 99th of a hundred values is the p99, whatever their order."""
    assert stats.quantile([float(n) for n in range(100, 0, -1)], share) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "0"), (14_203.7, "14,204"), (99.94, "99.9"), (5.006, "5.01"), (-2.5, "-2.50")]
)
def test_figures_are_shown_with_three_digits(value: float, expected: str) -> None:
    """People read no more than that."""
    assert stats.shown(value) == expected


def test_a_rate_is_compared_with_the_fastest_peer() -> None:
    """Beating the slow one is not enough."""
    goal = Goal(Kind.AT_LEAST, 3, ("huey", "taskiq-always"))
    missed = judge(goal, 10_000, {"huey": 2_000, "taskiq-always": 4_000})
    assert (missed.ratio, missed.is_met, missed.word) == (2.5, False, "missed")
    assert judge(goal, 12_000, {"huey": 2_000, "taskiq-always": 4_000}).is_met is True


def test_a_latency_is_compared_with_the_quickest_peer() -> None:
    """At most once the lowest."""
    goal = Goal(Kind.AT_MOST, 1, ("huey", "taskiq-always"))
    assert judge(goal, 2.0, {"huey": 5.0, "taskiq-always": 2.0}).is_met is True
    assert judge(goal, 2.1, {"huey": 5.0, "taskiq-always": 2.0}).is_met is False


def test_an_absent_peer_leaves_a_goal_open() -> None:
    """A goal that names a peer which did not run is neither met nor missed, whatever the others did."""
    goal = Goal(Kind.AT_LEAST, 3, ("huey", "taskiq-always"))
    verdict = judge(goal, 1e9, {"huey": 1.0})
    assert (verdict.ratio, verdict.is_met, verdict.word) == (None, None, "not measured")


def test_an_absolute_goal_needs_no_peer() -> None:
    """The bound itself still meets it."""
    goal = Goal(Kind.AT_MOST, 350)
    assert judge(goal, 350, {}).is_met is True
    assert judge(goal, 350.1, {}).is_met is False
    assert goal.text("MiB", {}) == "<= 350 MiB"


def test_every_goal_is_against_a_peer_that_its_row_shows() -> None:
    """A ratio stands beside the figure that it was made of."""
    for row in rows.ROWS:
        for goal in row.goals:
            assert set(goal.against) <= set(row.peers), row.measure
            assert not goal.against or row.peer_measure, row.measure


def test_rows_have_measures_of_their_own() -> None:
    """No figure is shown twice."""
    measures = [row.measure for row in rows.ROWS]
    assert len(set(measures)) == len(measures)
