"""What a layer version may look like. Pure; RuleBroken says what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from services.policy.rules import RuleBroken, at_most

MAX_DESCRIPTION_CHARACTERS = 256
MAX_LICENSE_CHARACTERS = 512
MAX_RUNTIMES = 15
MAX_RUNTIME_CHARACTERS = 64
ARCHITECTURES = ("x86_64", "arm64")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,140}")


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """A layer version as asked for."""

    layer_name: str
    description: str = ""
    license_info: str = ""
    compatible_runtimes: Sequence[str] = ()
    compatible_architectures: Sequence[str] = ()


def check_layer(spec: LayerSpec) -> None:
    """Pass when every field keeps its rule. Runtimes are told, not judged: a layer may outlive one. RuleBroken."""
    if not _NAME.fullmatch(spec.layer_name):
        raise RuleBroken("layer_name", f"{spec.layer_name[:80]!r} must be 1 to 140 characters of A-Z a-z 0-9 _ -")
    at_most("description", spec.description, MAX_DESCRIPTION_CHARACTERS)
    at_most("license_info", spec.license_info, MAX_LICENSE_CHARACTERS)
    if len(spec.compatible_runtimes) > MAX_RUNTIMES:
        raise RuleBroken("compatible_runtimes", f"at most {MAX_RUNTIMES}, not {len(spec.compatible_runtimes)}")
    for runtime in spec.compatible_runtimes:
        at_most("compatible_runtimes", runtime, MAX_RUNTIME_CHARACTERS)
    if len(spec.compatible_architectures) > len(ARCHITECTURES):
        text = f"at most {len(ARCHITECTURES)}, not {len(spec.compatible_architectures)}"
        raise RuleBroken("compatible_architectures", text)
    for architecture in spec.compatible_architectures:
        if architecture not in ARCHITECTURES:
            text = f"{architecture[:40]!r} must be one of {', '.join(ARCHITECTURES)}"
            raise RuleBroken("compatible_architectures", text)
