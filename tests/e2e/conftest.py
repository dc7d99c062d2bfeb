"""One fleet for all tests that leave it as they found it; its logs go into a failed test's report."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.fleet import Fleet

FAST = {"retry.base_seconds": "0.1", "retry.throttle_base_seconds": "0.1", "source.rescan_seconds": "5"}


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """A fleet whose retries take tenths of seconds."""
    with Fleet(FAST) as running:
        yield running


@pytest.fixture(scope="session")
def strict_fleet() -> Iterator[Fleet]:
    """A fleet whose doors ask for signatures."""
    with Fleet({**FAST, "auth.mode": "strict"}) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the logs of the fleets that a failed test used."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Fleet):
                report.sections.append((f"fleet {name}", value.describe_logs()))
    return report
