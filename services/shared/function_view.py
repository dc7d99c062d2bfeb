"""A function as the doors, pollers and hosts read it: versions and aliases by name, worked out once per change."""

import uuid

from evenflow.control.v1 import resources_pb2

from services.policy.arns import LATEST
from services.policy.qualifiers import Pointer, resolve


class FunctionView:
    """Versions and aliases of one function. Make a new one whenever the function's resource is another."""

    __slots__ = ("aliases", "function", "versions")

    def __init__(self, function: resources_pb2.Function) -> None:
        self.function = function
        self.versions = {version.version: version for version in function.versions}
        self.aliases = {
            alias.name: Pointer(alias.function_version, dict(alias.additional_version_weights))
            for alias in function.aliases
        }

    def knows(self, qualifier: str) -> bool:
        """Whether this is "$LATEST", "", a published version or an alias."""
        return resolve(qualifier, self.versions, self.aliases, 0.0) is not None

    def version(self, number: str) -> resources_pb2.FunctionVersion | None:
        """What runs as this number, or as "$LATEST"; None: it is not there (any more)."""
        return self.function.latest if number in ("", LATEST) else self.versions.get(number)

    def choose(self, qualifier: str, draw: float) -> resources_pb2.FunctionVersion | None:
        """What one invocation by this qualifier runs; None: no such version or alias. `draw`: 0.0 to below 1.0."""
        number = resolve(qualifier, self.versions, self.aliases, draw)
        return None if number is None else self.version(number)

    def revision_id(self, qualifier: str) -> str:
        """Of the alias or the version that a qualifier names; "": there is none."""
        for alias in self.function.aliases:
            if alias.name == qualifier:
                return alias.revision_id
        version = self.version(qualifier)
        return "" if version is None else version.revision_id

    def async_config(self, qualifier: str) -> resources_pb2.AsyncConfig:
        """How async events of this qualifier are treated; the defaults where nothing was put."""
        if qualifier in ("", LATEST):
            return self.function.async_config
        if qualifier in self.function.qualified_async_configs:
            return self.function.qualified_async_configs[qualifier]
        return resources_pb2.AsyncConfig()


def version_of(function: resources_pb2.Function, number: str) -> resources_pb2.FunctionVersion | None:
    """What runs as this number, or as "$LATEST"; None: it is not there. For who asks once and needs no view."""
    if number in ("", LATEST):
        return function.latest
    return next((version for version in function.versions if version.version == number), None)


def policy_revision_id(function: resources_pb2.Function, qualifier: str) -> str:
    """Of the statements about one qualifier ("": none): another one with each change of them.

    Where there are none it is that of the version or alias. It is worked out of the statements: a change of the policy
    is no change of code, which would end sandboxes and make a version.
    """
    revision_id = FunctionView(function).revision_id(qualifier)
    statements = [one for one in function.permissions if one.qualifier == qualifier]
    if not statements or not revision_id:
        return revision_id
    content = b"".join(one.SerializeToString(deterministic=True) for one in statements)
    return str(uuid.uuid5(uuid.UUID(revision_id), content.hex()))
