"""Whether parameters keep the bounds of the model (presence, length, value, pattern, enumeration); in AWS's words."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from services.frontend.lambda_api.shapes import Shape

# AWS tells every violation; a caller's faults must not become a megabyte's answer.
MAX_TOLD = 16
MAX_TOLD_CHARACTERS = 400
_HIDDEN = "***"
# Classes of characters that Java's patterns have and Python's have not; they stand inside brackets in the model.
_CLASSES = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\w",
    r"\p{Z}": " \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000",
}


def check(shape: Shape | None, params: Mapping[str, Any]) -> str:
    """What is wrong, as AWS words it; empty: nothing."""
    if shape is None:
        return ""
    found: list[str] = []
    for text in _structure(shape, params, "", False):
        found.append(text)
        if len(found) >= MAX_TOLD:
            break
    if not found:
        return ""
    noun = "error" if len(found) == 1 else "errors"
    return f"{len(found)} validation {noun} detected: {'; '.join(found)}"


def _structure(shape: Shape, given: Mapping[str, Any], path: str, is_hidden: bool) -> Iterator[str]:
    for name in shape.required:
        if given.get(name) is None:
            yield _says("null", _join(path, name), "Member must not be null", False)
    for name, member in shape.members.items():
        value = given.get(name)
        if value is not None:
            yield from _value(member.shape, value, _join(path, name), is_hidden)


def _value(shape: Shape, given: Any, path: str, is_hidden: bool) -> Iterator[str]:
    is_hidden = is_hidden or shape.is_sensitive
    match shape.kind:
        case "structure":
            yield from _structure(shape, given, path, is_hidden)
        case "list":
            yield from _length(shape, given, path, is_hidden)
            assert shape.member is not None
            for index, one in enumerate(given):
                yield from _value(shape.member, one, f"{path}.{index + 1}.member", is_hidden)
        case "map":
            yield from _length(shape, given, path, is_hidden)
            assert shape.member is not None and shape.key is not None
            for key, one in given.items():
                yield from _value(shape.key, key, f"{path}.key", is_hidden)
                yield from _value(shape.member, one, f"{path}.{key[:80]}.member", is_hidden)
        case "string":
            yield from _string(shape, given, path, is_hidden)
        case "blob":
            yield from _length(shape, given, path, True)
        case "integer" | "long" | "float" | "double":
            if shape.min is not None and given < shape.min:
                text = f"Member must have value greater than or equal to {_number(shape.min)}"
                yield _says(given, path, text, is_hidden)
            if shape.max is not None and given > shape.max:
                yield _says(
                    given, path, f"Member must have value less than or equal to {_number(shape.max)}", is_hidden
                )


def _string(shape: Shape, given: str, path: str, is_hidden: bool) -> Iterator[str]:
    if shape.enum:
        if given not in shape.enum:
            yield _says(given, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]", is_hidden)
        return
    is_short = True
    for text in _length(shape, given, path, is_hidden):
        is_short = False
        yield text
    # A text that is too long is not tried against its pattern: time grows with it.
    if shape.pattern and is_short and not pattern(shape.pattern).fullmatch(given):
        yield _says(given, path, f"Member must satisfy regular expression pattern: {shape.pattern}", is_hidden)


def _length(shape: Shape, given: Any, path: str, is_hidden: bool) -> Iterator[str]:
    if shape.min is not None and len(given) < shape.min:
        yield _says(given, path, f"Member must have length greater than or equal to {_number(shape.min)}", is_hidden)
    if shape.max is not None and len(given) > shape.max:
        yield _says(given, path, f"Member must have length less than or equal to {_number(shape.max)}", is_hidden)


def _says(given: Any, path: str, constraint: str, is_hidden: bool) -> str:
    if given == "null" and constraint == "Member must not be null":
        return f"Value null at '{path}' failed to satisfy constraint: {constraint}"
    told = _HIDDEN if is_hidden else str(given)[:MAX_TOLD_CHARACTERS]
    return f"Value '{told}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    # AWS tells members as Java names them.
    lower = name if name.isupper() else name[:1].lower() + name[1:]
    return f"{path}.{lower}" if path else lower


def _number(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else str(bound)


@cache
def pattern(text: str) -> re.Pattern[str]:
    """A pattern of the model as Python reads it."""
    # One for each pattern of the model: fewer than a hundred.
    for name, characters in _CLASSES.items():
        text = text.replace(name, characters)
    return re.compile(text)
