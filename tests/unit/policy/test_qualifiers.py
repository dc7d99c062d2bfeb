"""Which version an invocation runs."""

import random

import pytest
from evenflow.control.v1 import resources_pb2

from services.policy.qualifiers import Pointer, resolve
from services.shared.function_view import FunctionView

VERSIONS = {"1": object(), "2": object()}
ALIASES = {"live": Pointer("1", {"2": 0.25}), "edge": Pointer("$LATEST"), "stale": Pointer("9")}


@pytest.mark.parametrize(
    ("qualifier", "draw", "version"),
    [
        ("", 0.5, "$LATEST"),
        ("$LATEST", 0.5, "$LATEST"),
        ("1", 0.5, "1"),
        ("3", 0.5, None),
        ("live", 0.0, "2"),
        ("live", 0.2499, "2"),
        ("live", 0.25, "1"),
        ("live", 0.99, "1"),
        ("edge", 0.5, "$LATEST"),
        ("stale", 0.5, None),
        ("nobody", 0.5, None),
    ],
)
def test_a_qualifier_names_one_version(qualifier: str, draw: float, version: str | None) -> None:
    """Aliases split by their weights; what is deleted or was never there is nothing."""
    assert resolve(qualifier, VERSIONS, ALIASES, draw) == version


def test_weights_split_traffic() -> None:
    """A quarter of many invocations goes to the further version."""
    draw = random.Random(7)
    runs = [resolve("live", VERSIONS, ALIASES, draw.random()) for _ in range(10_000)]
    assert 0.23 < runs.count("2") / len(runs) < 0.27


def test_a_function_is_read_by_qualifier() -> None:
    """Versions, aliases, and the async configuration of each; defaults where nothing was put."""
    function = resources_pb2.Function(
        latest=resources_pb2.FunctionVersion(version="$LATEST", timeout_ms=1),
        versions=[resources_pb2.FunctionVersion(version="1", timeout_ms=2)],
        aliases=[resources_pb2.Alias(name="live", function_version="1")],
        async_config=resources_pb2.AsyncConfig(maximum_retry_attempts=0),
        qualified_async_configs={"live": resources_pb2.AsyncConfig(maximum_retry_attempts=1)},
    )
    view = FunctionView(function)
    assert [view.knows(one) for one in ("", "$LATEST", "1", "live", "2")] == [True, True, True, True, False]
    chosen = view.choose("live", 0.9)
    assert chosen is not None and chosen.timeout_ms == 2 and view.choose("2", 0.9) is None
    assert view.async_config("").maximum_retry_attempts == 0
    assert view.async_config("live").maximum_retry_attempts == 1
    assert not view.async_config("1").HasField("maximum_retry_attempts")
