"""Every suite of a service runs against the service and its fake, and as callers of before see the service."""

import pytest

from tests.contract.clients import CLIENTS, TODAY


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`end`: "real by today" and so on; a module says in ENDS which implementations it holds."""
    if "end" not in metafunc.fixturenames:
        return
    clients = [TODAY] if metafunc.definition.get_closest_marker("today") else CLIENTS
    kinds = getattr(metafunc.module, "ENDS", ("real", "fake"))
    ends = [f"real by {client}" for client in clients] + [f"{kind} by {TODAY}" for kind in kinds if kind != "real"]
    metafunc.parametrize("end", ends, indirect=True, scope="module")
