"""Views of functions: made once per resource, and not at all for a single question."""

from evenflow.control.v1 import resources_pb2

from services.shared import function_view
from services.shared.function_view import FunctionViews, version_of


def function(name: str = "f") -> resources_pb2.Function:
    """With $LATEST and version 1."""
    made = resources_pb2.Function(tenant_id="default", function_name=name)
    made.latest.version = "$LATEST"
    made.versions.add(version="1")
    return made


def test_a_view_is_made_anew_only_for_another_resource() -> None:
    """Of equal ones, too: what a config view holds is replaced, never changed."""
    views, first, second = FunctionViews(), function(), function()
    assert views.of(first) is views.of(first)
    assert views.of(second) is not views.of(first)
    assert views.of(second).function is second


def test_views_are_bounded() -> None:
    """Functions that are gone do not pile up."""
    views = FunctionViews()
    for n in range(function_view.MAX_VIEWS + 1):
        views.of(function(f"f{n}"))
    assert len(views._views) == 1


def test_a_version_is_found_without_a_view() -> None:
    """By its number, $LATEST under both of its names; None: it is not there."""
    found = function()
    names = [
        version.version if version else None for version in (version_of(found, n) for n in ("", "$LATEST", "1", "2"))
    ]
    assert names == ["$LATEST", "$LATEST", "1", None]
