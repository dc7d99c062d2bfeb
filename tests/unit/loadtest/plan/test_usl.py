"""A known scalability law with noise comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan import usl as law
from loadtest.plan.findings import Findings
from loadtest.plan.usl import fit_points, usl
from tests.unit.loadtest.plan.known_fleet import KnownFleet

CALLERS = (1, 2, 4, 8, 16, 32, 64, 128)


def test_the_known_fleets_law_lies_within_the_intervals(known: KnownFleet, findings: Findings) -> None:
    found = findings.usl
    assert found is not None
    for interval, value, truth in zip(
        (found.lambda_interval, found.sigma_interval, found.kappa_interval),
        (found.lambda_per_second, found.sigma, found.kappa),
        known.usl,
        strict=True,
    ):
        assert value == pytest.approx(truth, rel=0.2)
        # Half a width more: one draw of a 95 % interval may miss.
        assert interval is not None
        width = interval.high - interval.low
        assert interval.low - width / 2 <= truth <= interval.high + width / 2
    _, sigma, kappa = known.usl
    assert found.peak_callers == pytest.approx(((1 - sigma) / kappa) ** 0.5, rel=0.1)
    assert found.held_out is not None and found.held_out.largest < 0.1


def test_the_law_by_hand() -> None:
    """Ten callers of 100/s each, a tenth serial, a hundredth for agreeing: 1,000 / (1 + 0.9 + 0.9)."""
    assert usl(np.array([1.0, 10.0]), 100.0, 0.1, 0.01) == pytest.approx([100.0, 1_000 / 2.8])


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "RESAMPLES", 4)


@settings(max_examples=25, deadline=None)
@given(
    lambda_per_second=st.floats(1, 1e5),
    sigma=st.floats(0.001, 0.5),
    kappa=st.floats(1e-5, 0.01),
)
def test_without_noise_the_law_comes_back_whatever_it_is(lambda_per_second: float, sigma: float, kappa: float) -> None:
    per_second = usl(np.array(CALLERS, dtype=float), lambda_per_second, sigma, kappa)
    found = law._parameters(np.array(CALLERS, dtype=float), per_second)
    assert found == pytest.approx((lambda_per_second, sigma, kappa), rel=1e-3)


def test_a_linear_system_has_no_peak(few_resamples: None) -> None:
    found = fit_points([(one, 10.0 * one) for one in CALLERS])
    assert found is not None
    assert found.peak_callers is None and found.peak_per_second is None
    assert found.per_second(1_000) == pytest.approx(10_000, rel=1e-3)


def test_too_few_numbers_of_callers_are_no_law() -> None:
    assert fit_points([(1, 10.0), (1, 11.0), (2, 19.0), (4, 30.0)]) is None


def test_a_system_that_follows_another_law_shows_in_the_held_out_error(few_resamples: None) -> None:
    """A cliff: the law has none."""
    found = fit_points([(one, 10.0 * one if one < 32 else 5.0) for one in CALLERS])
    assert found is not None and found.held_out is not None and found.held_out.largest > 0.5
