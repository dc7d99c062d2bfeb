"""Parameters for any operation of the Lambda API, from botocore's model and the names of what a tenant has."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.session

MAX_DEPTH = 4
_session: Any = botocore.session.Session
MODEL: Any = _session().get_service_model("lambda")


@dataclass
class Belongings:
    """What a tenant has, by the members that name it; `spare` are values that an operation needs to succeed."""

    values: dict[str, Any]
    # By operation: members in place of `values`, optional ones among them.
    spare: dict[str, dict[str, Any]] = field(default_factory=dict)


def parameters(operation: str, values: Mapping[str, Any], *, wants_optional: bool = False) -> dict[str, Any]:
    """Required members, and with `wants_optional` every other one that has a value; what has none is of its shape."""
    shape = MODEL.operation_model(operation).input_shape
    if shape is None:
        return {}
    made = {}
    for name, member in shape.members.items():
        if name in values and (wants_optional or name in shape.required_members):
            made[name] = values[name]
        elif name in shape.required_members:
            made[name] = _of_shape(member, 0)
    return made


def _of_shape(shape: Any, depth: int) -> Any:
    """The least value that the shape allows."""
    match shape.type_name:
        case "string":
            return shape.enum[0] if shape.enum else "x" * max(1, shape.metadata.get("min", 1))
        case "integer" | "long" | "double" | "float":
            return shape.metadata.get("min", 1)
        case "boolean":
            return False
        case "blob":
            return b"x"
        case "list":
            return [_of_shape(shape.member, depth + 1)]
        case "map":
            return {"x": _of_shape(shape.value, depth + 1)}
        case "structure" if depth < MAX_DEPTH:
            return {name: _of_shape(shape.members[name], depth + 1) for name in shape.required_members}
    return {}


def is_about_something(operation: str, values: Mapping[str, Any]) -> bool:
    """Whether a required member names something that somebody has."""
    shape = MODEL.operation_model(operation).input_shape
    naming = {"FunctionName", "UUID", "LayerName", "Arn", "Resource"}
    return shape is not None and any(name in naming and name in values for name in shape.required_members)


def in_order(operations: list[str]) -> list[str]:
    """So that each finds what it needs: what makes first, what takes away last, whole functions at the very end."""
    ranks = ("Create", "Publish", "Add", "Put", "Tag", "Get", "List", "Invoke", "Update", "Untag", "Remove", "Delete")

    def rank(name: str) -> tuple[int, bool, str]:
        found = next((n for n, verb in enumerate(ranks) if name.startswith(verb)), len(ranks))
        # An alias takes what belongs to it along.
        return found, name in ("DeleteAlias", "DeleteFunction"), name

    return sorted(operations, key=rank)
