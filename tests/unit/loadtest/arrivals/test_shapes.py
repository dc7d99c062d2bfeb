"""Schedules: their rates, their seeds, and how drivers share one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.arrivals import arrivals, shapes, tenants
from loadtest.arrivals.arrivals import MAX_ARRIVALS, TooMany
from loadtest.arrivals.shapes import SHAPES, Shape, times
from loadtest.arrivals.traffic import schedule, tenants_of
from loadtest.open_loop.spec import Traffic


@pytest.mark.parametrize("name", SHAPES)
def test_times_ascend_within_the_schedule_and_follow_their_seed(name: str) -> None:
    shape = Shape(name, 200.0)
    found = times(shape, 20.0, "1")
    assert np.all(np.diff(found) >= 0) and found[0] >= 0 and found[-1] < 20.0
    assert np.array_equal(found, times(shape, 20.0, "1"))
    if name != "constant":
        assert not np.array_equal(found, times(shape, 20.0, "2"))


@pytest.mark.parametrize("name", ["constant", "poisson", "bursts", "diurnal", "steps"])
def test_every_shape_keeps_its_mean_rate(name: str) -> None:
    # Whole cycles; six standard deviations of a Poisson count of 20,000.
    found = times(Shape(name, 1_000.0), 20.0, "7")
    assert abs(len(found) - 20_000) < 6 * 20_000**0.5


def test_a_poisson_stream_has_exponential_gaps() -> None:
    gaps = np.diff(times(Shape("poisson", 1_000.0), 30.0, "3"))
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert np.mean(gaps > gaps.mean()) == pytest.approx(np.exp(-1), abs=0.02)


def test_bursts_are_silent_in_between() -> None:
    found = times(Shape("bursts", 100.0, on_seconds=1.0, off_seconds=4.0), 20.0, "1")
    assert np.all(found % 5.0 < 1.0)


def test_a_herd_comes_at_one_moment() -> None:
    found = times(Shape("herd", 10.0, period_seconds=5.0, herd_events=300), 12.0, "1")
    assert [int((found == moment).sum()) for moment in (2.5, 7.5)] == [300, 300]


@pytest.mark.parametrize("warm_up", [0.0, 0.7, 3.0])
def test_a_herd_is_in_every_period_that_counts(warm_up: float) -> None:
    """Also where the period is all of the counted part."""
    found = times(Shape("herd", 10.0, period_seconds=5.0, herd_events=300), warm_up + 5.0, "1", warm_up)
    assert int((found == warm_up + 2.5).sum()) == 300


@pytest.mark.parametrize(
    "shape",
    [
        Shape("bursts", 1_000.0, on_seconds=1.0, off_seconds=4.0),
        Shape("diurnal", 1_000.0, period_seconds=10.0),
        Shape("steps", 1_000.0, levels=(1.0, 2.0, 6.0)),
    ],
    ids=lambda shape: shape.name,
)
@pytest.mark.parametrize(("seconds", "warm_up"), [(20.0, 0.0), (23.0, 3.0), (17.0, 0.0), (21.5, 2.5)])
def test_the_counted_part_has_the_mean_that_was_told(shape: Shape, seconds: float, warm_up: float) -> None:
    """Behind a warm-up, and where the last period is cut off."""
    found = times(shape, seconds, "7", warm_up)
    expected = 1_000.0 * (seconds - warm_up)
    assert abs(int((found >= warm_up).sum()) - expected) < 6 * expected**0.5
    assert np.all(np.diff(found) >= 0) and found[-1] < seconds


@pytest.mark.parametrize("name", ["bursts", "diurnal", "herd"])
def test_a_period_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="does not fit into the 3 s that count"):
        times(Shape(name, on_seconds=1.0, off_seconds=4.0, period_seconds=4.0), 5.0, "1", 2.0)


def test_steps_have_their_own_rates() -> None:
    found = times(Shape("steps", 1_000.0, levels=(0.5, 1.5)), 10.0, "1")
    first = int((found < 5.0).sum())
    assert first == pytest.approx(2_500, rel=0.1) and len(found) - first == pytest.approx(7_500, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "square"}, {"per_second": 0.0}, {"amplitude": 1.5}, {"off_seconds": -1.0}, {"levels": ()}],
)
def test_a_shape_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Shape(**wrong)  # type: ignore[arg-type]


def test_a_schedule_has_a_bound() -> None:
    with pytest.raises(TooMany, match="20,000,000"):
        times(Shape("poisson", MAX_ARRIVALS * 1.0), 2.0, "1")
    with pytest.raises(TooMany, match="20,000,000"):
        times(Shape("herd", 1.0, period_seconds=0.01, herd_events=100_000), 10.0, "1")
    with pytest.raises(TooMany, match="periods"):
        times(Shape("bursts", 1.0, on_seconds=1e-9, off_seconds=0.0), 10.0, "1")
    with pytest.raises(ValueError):
        times(Shape(), 0.0, "1")


@settings(deadline=None)
@given(st.lists(st.floats(0, 9.999), max_size=60), st.integers(1, 7))
def test_parts_of_a_schedule_are_the_schedule(at: list[float], count: int) -> None:
    whole = arrivals.make(10.0, np.array(at, dtype=np.float64))
    parts = [whole.part(index, count) for index in range(count)]
    assert sorted(int(number) for part in parts for number in part.numbers) == list(range(len(whole)))
    for part in parts:
        assert np.array_equal(part.at_seconds, whole.at_seconds[part.numbers])
        assert np.all(np.diff(part.at_seconds) >= 0)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_there_is_no_part_beyond_the_last() -> None:
    with pytest.raises(ValueError, match="driver 2 of 2"):
        arrivals.make(1.0, np.zeros(1)).part(2, 2)


@pytest.mark.parametrize("skew", tenants.SKEWS)
def test_weights_sum_up_to_one(skew: str) -> None:
    found = tenants.weights(skew, 100, "1")
    assert found.sum() == pytest.approx(1.0) and found.min() > 0


def test_tenants_are_drawn_by_weight() -> None:
    parts = tenants.weights("zipf", 10, "1")
    found = np.bincount(tenants.draw(parts, 50_000, "1"), minlength=10) / 50_000
    assert np.abs(found - parts).max() < 0.02


def test_traffic_with_a_noisy_tenant_has_one_more_who_has_its_part() -> None:
    traffic = Traffic(Shape("constant", 1_000.0), 10.0, "1", tenants=4, noisy_part=0.5)
    found = np.bincount(schedule(traffic).tenants, minlength=5)
    assert tenants_of(traffic) == len(found) == 5
    assert found[4] == pytest.approx(5_000, rel=0.05) and found[:4].max() < 1_600


def test_one_traffic_is_one_schedule() -> None:
    traffic = Traffic(Shape("diurnal", 100.0, period_seconds=5.0), 5.0, "9", tenants=7, skew="lognormal")
    one, same = schedule(traffic), schedule(traffic)
    assert np.array_equal(one.at_seconds, same.at_seconds) and np.array_equal(one.tenants, same.tenants)
    assert shapes.times(traffic.shape, 5.0, "9").tolist() == one.at_seconds.tolist()
