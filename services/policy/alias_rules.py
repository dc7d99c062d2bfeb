"""What an alias may look like. Pure; RuleBroken says what to do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from services.policy.arns import LATEST
from services.policy.rules import RuleBroken, at_most

MAX_ALIASES = 100
MAX_DESCRIPTION_CHARACTERS = 256
_NAME = re.compile(r"(?!\d+$)[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class AliasSpec:
    """An alias as asked for: `weights` by another version's number, 0.0 to 1.0."""

    name: str
    version: str
    weights: Mapping[str, float]
    description: str = ""


def check_alias(spec: AliasSpec) -> None:
    """Pass when name, weights and description keep their rules; whether the versions exist is not asked. RuleBroken."""
    check_alias_name(spec.name)
    at_most("description", spec.description, MAX_DESCRIPTION_CHARACTERS)
    field_name = "additional_version_weights"
    if not spec.weights:
        return
    if spec.version == LATEST or LATEST in spec.weights:
        raise RuleBroken(
            field_name, f"{LATEST} is not supported for an alias pointing to more than 1 version", is_whole=True
        )
    if len(spec.weights) > 1:
        raise RuleBroken(field_name, f"at most 1 version beside the alias's own, not {len(spec.weights)}")
    for version, weight in spec.weights.items():
        if version == spec.version:
            text = f"Invalid function version {version}. Function version {version} is already included in routing"
            raise RuleBroken(field_name, f"{text} configuration.", is_whole=True)
        # A NaN is within nothing.
        if not 0.0 <= weight <= 1.0:
            raise RuleBroken(
                field_name, f"the weight of version {version[:20]} must be within 0.0 to 1.0, not {weight}"
            )


def check_alias_name(name: str) -> None:
    """Pass for 1 to 128 characters of [A-Za-z0-9_-] that are not all digits. RuleBroken."""
    if not _NAME.fullmatch(name):
        raise RuleBroken("name", f"{name[:80]!r} must be 1 to 128 characters of A-Z a-z 0-9 _ -, not all digits")
