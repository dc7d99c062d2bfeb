"""Fields of the Lambda API that are kept and told and have no effect: a JSON object, merged by its members. Pure."""

import json
from typing import Any, NoReturn

from services.policy.rules import RuleBroken

MAX_KEPT_BYTES = 16_384
FIELD_NAME = "kept_fields"


def check_kept(kept: bytes) -> None:
    """Pass for nothing, or a JSON object of at most 16 KiB. RuleBroken."""
    _parse(kept)


def merge_kept(kept: bytes, changes: bytes) -> bytes:
    """The object with the members of `changes` in place of its own; null removes one. b"": none is left. RuleBroken."""
    merged = {**_parse(kept), **_parse(changes)}
    left = {name: value for name, value in merged.items() if value is not None}
    text = json.dumps(left, separators=(",", ":"), sort_keys=True).encode() if left else b""
    _check_size(text)
    return text


def _parse(kept: bytes) -> dict[str, Any]:
    _check_size(kept)
    if not kept:
        return {}
    try:
        found = json.loads(kept, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RuleBroken(FIELD_NAME, "must be a JSON object")
    return found


def _check_size(kept: bytes) -> None:
    if len(kept) > MAX_KEPT_BYTES:
        raise RuleBroken(FIELD_NAME, f"{len(kept):,} bytes; at most {MAX_KEPT_BYTES:,} are kept")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
