"""Holds responses of the Lambda API against botocore's output shapes, as they came over the wire: boto3 would pass over
what it does not know.
"""

import base64
import json
import re
from typing import Any

from services.frontend.lambda_api.validation import pattern

_ZULU = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d{4})")


def watch(client: Any, seen: set[str]) -> None:
    """Check every response of this client that is no error; names of operations go to `seen`."""

    def check(operation_model: Any, response_dict: dict[str, Any], **_more: Any) -> None:
        if response_dict["status_code"] >= 300:
            return
        seen.add(operation_model.name)
        check_response(operation_model, response_dict["status_code"], response_dict["body"])

    client.meta.events.register("before-parse.lambda", check)


def check_response(operation: Any, status: int, body: Any) -> None:
    """AssertionError: status, a member, a type or a bound is not the model's."""
    # DeleteFunction says its status in a member, and 204 is what AWS answers.
    if operation.name not in ("DeleteFunction", "Invoke", "InvokeWithResponseStream"):
        assert status == operation.http.get("responseCode", 200), f"{operation.name}: status {status}"
    shape = operation.output_shape
    if shape is None or status == 204:
        assert not body, f"{operation.name}: a body where there is none"
        return
    if "payload" in shape.serialization:
        return
    document = json.loads(body) if body else {}
    inside = {name: member for name, member in shape.members.items() if member.serialization.get("location") is None}
    _members(shape, inside, document, operation.name)


def _members(shape: Any, members: dict[str, Any], document: Any, path: str) -> None:
    assert isinstance(document, dict), f"{path}: no object"
    missing = [name for name in shape.required_members if name in members and name not in document]
    assert not missing, f"{path}: {missing} are required"
    for name, value in document.items():
        assert name in members, f"{path}: the model knows no {name}"
        _value(members[name], value, f"{path}.{name}")


def _value(shape: Any, value: Any, path: str) -> None:
    assert value is not None, f"{path}: null"
    match shape.type_name:
        case "structure":
            _members(shape, dict(shape.members), value, path)
        case "list":
            assert isinstance(value, list), f"{path}: no list"
            for index, inner in enumerate(value):
                _value(shape.member, inner, f"{path}[{index}]")
        case "map":
            assert isinstance(value, dict), f"{path}: no map"
            for key, inner in value.items():
                _value(shape.value, inner, f"{path}[{key}]")
        case "string":
            assert isinstance(value, str), f"{path}: {value!r} is no text"
            _text(shape, value, path)
        case "boolean":
            assert isinstance(value, bool), f"{path}: {value!r} is no boolean"
        case "integer" | "long":
            assert isinstance(value, int) and not isinstance(value, bool), f"{path}: {value!r} is no integer"
            _bounds(shape, value, path)
        case "float" | "double":
            assert isinstance(value, (int, float)), f"{path}: {value!r} is no number"
            _bounds(shape, value, path)
        case "timestamp":
            assert isinstance(value, (int, float)) and value > 1_000_000_000, f"{path}: {value!r} is no time"
        case "blob":
            base64.b64decode(value, validate=True)


def _text(shape: Any, value: str, path: str) -> None:
    if shape.enum:
        assert value in shape.enum, f"{path}: {value!r} is none of {shape.enum}"
        return
    _bounds(shape, len(value), path)
    if shape.name == "Timestamp":
        assert _ZULU.fullmatch(value), f"{path}: {value!r} is no time"
    form = service_pattern(shape.name)
    if form:
        assert pattern(form).fullmatch(value), f"{path}: {value!r} does not match {form}"


def _bounds(shape: Any, value: float, path: str) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    assert low is None or value >= low, f"{path}: {value} is below {low}"
    assert high is None or value <= high, f"{path}: {value} is above {high}"


def service_pattern(name: str) -> str:
    """The pattern of a shape: botocore leaves it out of its own metadata."""
    return _patterns().get(name, "")


def _patterns() -> dict[str, str]:
    if not _PATTERNS:
        import botocore.loaders

        loader: Any = botocore.loaders.Loader
        shapes = loader().load_service_model("lambda", "service-2")["shapes"]
        _PATTERNS.update({name: shape["pattern"] for name, shape in shapes.items() if "pattern" in shape})
    return _PATTERNS


_PATTERNS: dict[str, str] = {}
