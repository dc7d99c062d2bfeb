"""From a request to the operation's parameters, by the input shape: path, query, headers, JSON body."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from services.frontend.lambda_api.routing import Found
from services.frontend.lambda_api.shapes import Shape

MAX_DEPTH = 64
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}
_MAX_INTEGER = {"integer": 2**31 - 1, "long": 2**63 - 1}


class BadRequest(ValueError):
    """The request cannot be read; the text is a sentence for the caller. `code` is AWS's error."""

    def __init__(self, text: str, code: str = "SerializationException") -> None:
        super().__init__(text)
        self.code = code


def parse(found: Found, headers: Mapping[bytes, bytes], body: bytes) -> dict[str, Any]:
    """The parameters by their AWS names; those not given are absent, unknown members are passed over. BadRequest."""
    shape = found.operation.input
    if shape is None:
        return {}
    params: dict[str, Any] = {}
    for name, member in shape.members.items():
        match member.location:
            case "uri":
                params[name] = _from_text(member.shape, found.labels[member.wire_name], name)
            case "querystring":
                given = found.query.get(member.wire_name)
                if given is not None:
                    params[name] = _from_query(member.shape, given, name)
            case "header":
                text = headers.get(member.wire_name.lower().encode())
                if text is not None:
                    params[name] = _from_text(member.shape, text.decode("utf-8", "replace"), name)
    if shape.payload:
        payload = shape.members[shape.payload].shape
        if body and payload.kind == "blob":
            params[shape.payload] = body
        elif body.strip():
            params[shape.payload] = _members(payload, _document(body), shape.payload, 0)
        return params
    has_body = any(not member.location for member in shape.members.values())
    if has_body and body.strip():
        params.update(_members(shape, _document(body), "", 0))
    return params


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        text = str(e) if isinstance(e, json.JSONDecodeError) else "no JSON in UTF-8"
        raise BadRequest(
            f"Could not parse request body into json: {text[:200]}", "InvalidRequestContentException"
        ) from None
    if not isinstance(document, dict):
        raise BadRequest("The request body must be a JSON object.")
    return document


def _refuse_constant(name: str) -> NoReturn:
    # Python reads NaN and Infinity, which are no JSON and keep within every bound.
    raise ValueError(f"{name} is no JSON")


def _members(shape: Shape, document: Mapping[str, Any], path: str, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        if not member.location and document.get(name) is not None:
            where = f"{path}.{name}" if path else name
            found[name] = _value(member.shape, document[name], where, depth + 1)
    return found


def _value(shape: Shape, given: Any, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise BadRequest(f"{path[:200]} is nested too deep.")
    if shape.kind == "blob":
        return _blob(given, path)
    if shape.kind == "timestamp":
        return _timestamp(given, path)
    kinds: Any = _KINDS[shape.kind]
    # To Python a bool is an int; to the model it is not.
    if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
        raise _wrong_kind(shape, path)
    if isinstance(given, int) and abs(given) > _MAX_INTEGER.get(shape.kind, 2**63 - 1):
        raise _wrong_kind(shape, path)
    if isinstance(given, str):
        _require_whole(given, path)
    if shape.kind == "structure":
        return _members(shape, given, path, depth)
    if shape.kind == "list":
        inner = _inner(shape)
        return [_value(inner, one, f"{path}.{i}", depth + 1) for i, one in enumerate(given) if one is not None]
    if shape.kind == "map":
        inner = _inner(shape)
        for key in given:
            _require_whole(key, path)
        return {
            key: _value(inner, one, f"{path}.{key[:80]}", depth + 1) for key, one in given.items() if one is not None
        }
    return given


def _require_whole(text: str, path: str) -> None:
    """JSON can name halves of characters, which no text may have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"{path[:200]} has half a character (a lone surrogate).") from None


def _from_query(shape: Shape, given: list[str], path: str) -> Any:
    if shape.kind == "list":
        inner = _inner(shape)
        return [_from_text(inner, one, path) for one in given]
    return _from_text(shape, given[-1], path)


def _from_text(shape: Shape, text: str, path: str) -> Any:
    match shape.kind:
        case "string":
            return text
        case "boolean":
            if text.lower() in ("true", "false"):
                return text.lower() == "true"
        case "integer" | "long":
            digits = text.removeprefix("-")
            # ASCII alone: int() reads other alphabets' digits, too.
            if (
                digits.isascii()
                and digits.isdecimal()
                and len(digits) < 20
                and abs(int(text)) <= _MAX_INTEGER[shape.kind]
            ):
                return int(text)
        case "timestamp":
            return _timestamp(text, path)
    raise _wrong_kind(shape, path)


def _blob(given: Any, path: str) -> bytes:
    if isinstance(given, str):
        try:
            return base64.b64decode(given, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadRequest(f"{path[:200]} must be base64.")


def _timestamp(given: Any, path: str) -> float:
    if isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) < 1e11:
        return float(given)
    if isinstance(given, str) and len(given) < 64:
        try:
            return datetime.fromisoformat(given).timestamp()
        except (ValueError, OverflowError):
            pass
    raise BadRequest(f"{path[:200]} must be a time: seconds since 1970, or ISO 8601.")


def _inner(shape: Shape) -> Shape:
    assert shape.member is not None
    return shape.member


def _wrong_kind(shape: Shape, path: str) -> BadRequest:
    return BadRequest(f"{path[:200]} must be of type {shape.kind}.")
