"""From a result to the response, by the output shape: status, headers, JSON body."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from services.frontend.lambda_api.shapes import Operation, Shape


def serialize(operation: Operation, result: Mapping[str, Any]) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, more headers and the body. KeyError: the result has a member that the model does not know."""
    shape = operation.output
    status = operation.status
    more: list[tuple[bytes, bytes]] = []
    if shape is None:
        assert not result, f"{operation.name} answers nothing"
        return status, more, b""
    document: dict[str, Any] = {}
    for name, value in result.items():
        member = shape.members[name]
        if value is None:
            continue
        match member.location:
            case "statusCode":
                status = int(value)
            case "header":
                more.append((member.wire_name.encode(), str(value).encode()))
            case _:
                document[name] = _encode(member.shape, value)
    if status == 204:
        return status, more, b""
    return status, more, json.dumps(document, separators=(",", ":")).encode()


def _encode(shape: Shape, value: Any) -> Any:
    match shape.kind:
        case "structure":
            return {
                name: _encode(shape.members[name].shape, inner) for name, inner in value.items() if inner is not None
            }
        case "list":
            assert shape.member is not None
            return [_encode(shape.member, inner) for inner in value]
        case "map":
            assert shape.member is not None
            return {name: _encode(shape.member, inner) for name, inner in value.items()}
        case "blob":
            return base64.b64encode(value).decode()
        case "timestamp":
            # Seconds with a fraction, as AWS's JSON protocols have it.
            return round(float(value), 3)
        case _:
            return value
