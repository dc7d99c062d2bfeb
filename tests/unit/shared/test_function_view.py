"""A version of a function, for who asks once."""

from evenflow.control.v1 import resources_pb2

from services.shared.function_view import version_of


def function(name: str = "f") -> resources_pb2.Function:
    """With $LATEST and version 1."""
    made = resources_pb2.Function(tenant_id="default", function_name=name)
    made.latest.version = "$LATEST"
    made.versions.add(version="1")
    return made


def test_a_version_is_found_without_a_view() -> None:
    """By its number, $LATEST under both of its names; None: it is not there."""
    found = function()
    names = [
        version.version if version else None for version in (version_of(found, n) for n in ("", "$LATEST", "1", "2"))
    ]
    assert names == ["$LATEST", "$LATEST", "1", None]
