"""What the provisioned concurrency of a function's qualifiers comes to. Pure."""

from collections.abc import Mapping

from evenflow.control.v1 import resources_pb2


def requests_of(function: resources_pb2.Function) -> Mapping[str, Mapping[str, int]]:
    """Version -> qualifier that resolves to it -> sandboxes asked for. An alias counts at its own version alone."""
    versions = {alias.name: alias.function_version for alias in function.aliases}
    found: dict[str, dict[str, int]] = {}
    for qualifier, config in function.provisioned.items():
        found.setdefault(versions.get(qualifier, qualifier), {})[qualifier] = config.requested
    return found


def total_of(function: resources_pb2.Function) -> int:
    """All of a function."""
    return sum(config.requested for config in function.provisioned.values())
