"""AWS's service model of Lambda, read from the data that botocore ships: operations, and the shapes of what they carry.

Only the data is read: botocore itself takes half a second to import and is not needed for it.
"""

import gzip
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

API_VERSION = "2015-03-31"
# Members of a shape that say what it may hold; its documentation is left behind.
_BOUNDS = ("min", "max", "pattern", "enum")


@dataclass(slots=True, eq=False)
class Shape:
    """A type of the model. `members`, `member` and `key` are set once all shapes exist, as shapes name one another."""

    name: str
    kind: str
    min: float | None = None
    max: float | None = None
    pattern: str = ""
    enum: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    # Name of the member that is the whole body.
    payload: str = ""
    is_sensitive: bool = False
    members: dict[str, "Member"] = field(default_factory=dict)
    # What a list holds, or the values of a map.
    member: "Shape | None" = None
    key: "Shape | None" = None


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A member of a structure; where it travels is "" (JSON body), "uri", "querystring", "header" or "statusCode"."""

    shape: Shape
    location: str
    wire_name: str


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """An operation: its request line, its success status, and its shapes; None: it has no such body."""

    name: str
    method: str
    uri: str
    status: int
    input: Shape | None
    output: Shape | None


@dataclass(frozen=True, slots=True, eq=False)
class ServiceModel:
    """All of it."""

    operations: Mapping[str, Operation]


@cache
def service_model() -> ServiceModel:
    """The model of Lambda; read and made once, tens of milliseconds."""
    spec = importlib.util.find_spec("botocore")
    assert spec is not None and spec.submodule_search_locations, "botocore is one of Evenflow's requirements"
    path = Path(spec.submodule_search_locations[0]) / "data" / "lambda" / API_VERSION / "service-2.json.gz"
    with gzip.open(path) as file:
        return build(json.load(file))


def build(document: Mapping[str, Any]) -> ServiceModel:
    """The model from its JSON document."""
    described: Mapping[str, Mapping[str, Any]] = document["shapes"]
    shapes = {name: _shape(name, shape) for name, shape in described.items()}
    for name, shape in described.items():
        _connect(shapes[name], shape, shapes)
    operations = {name: _operation(name, operation, shapes) for name, operation in document["operations"].items()}
    return ServiceModel(operations)


def _shape(name: str, described: Mapping[str, Any]) -> Shape:
    bounds = {key: described[key] for key in _BOUNDS if key in described}
    bounds["enum"] = tuple(bounds.get("enum", ()))
    return Shape(
        name,
        described["type"],
        **bounds,
        required=tuple(described.get("required", ())),
        payload=described.get("payload", ""),
        is_sensitive=bool(described.get("sensitive")),
    )


def _connect(shape: Shape, described: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    for name, member in described.get("members", {}).items():
        shape.members[name] = Member(
            shapes[member["shape"]], member.get("location", ""), member.get("locationName", name)
        )
    inner = described.get("member") or described.get("value")
    if inner:
        shape.member = shapes[inner["shape"]]
    if "key" in described:
        shape.key = shapes[described["key"]["shape"]]


def _operation(name: str, described: Mapping[str, Any], shapes: Mapping[str, Shape]) -> Operation:
    http = described["http"]
    given, answer = described.get("input"), described.get("output")
    return Operation(
        name,
        http["method"],
        http["requestUri"],
        http.get("responseCode", 200),
        shapes[given["shape"]] if given else None,
        shapes[answer["shape"]] if answer else None,
    )
