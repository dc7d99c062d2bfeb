"""One plan of the known fleet for all tests of its conclusions: they only read it."""

from dataclasses import replace

import pytest

from loadtest.plan.findings import Findings, conclude
from loadtest.plan.measured import Measured
from tests.unit.loadtest.plan.known_fleet import KnownFleet

RATES = (50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 340.0, 360.0, 370.0, 380.0, 390.0, 410.0, 440.0, 500.0)
BEST = 340.0


@pytest.fixture(scope="session")
def known() -> KnownFleet:
    """The model."""
    return KnownFleet()


@pytest.fixture(scope="session")
def measured(known: KnownFleet) -> Measured:
    """What its runs found."""
    return known.measured(RATES, BEST)


@pytest.fixture(scope="session")
def findings(measured: Measured) -> Findings:
    """What is concluded."""
    return conclude(measured)


@pytest.fixture(scope="session")
def open_runs(measured: Measured) -> Measured:
    """The same without runs of callers, whose law takes the longest to conclude."""
    return replace(measured, runs=tuple(run for run in measured.runs if not run.callers))
