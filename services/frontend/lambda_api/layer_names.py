"""Names and ARNs of layers and their versions."""

import re
from dataclasses import dataclass

from services.frontend.lambda_api.call import Call
from services.frontend.lambda_api.errors import bad_value

_LAYER = r"[A-Za-z0-9_-]{1,140}"
_ARN = re.compile(
    rf"arn:aws[a-z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{{12}}):layer:(?P<name>{_LAYER})(?::(?P<version>\d{{1,9}}))?"
)
_NAME = re.compile(_LAYER)


@dataclass(frozen=True, slots=True)
class LayerReference:
    """What a caller named; version 0 and an empty account where the text had none."""

    layer_name: str
    version: int
    account_id: str


def parse_layer_name(text: str) -> LayerReference:
    """A layer's name or ARN. bad_value."""
    if _NAME.fullmatch(text):
        return LayerReference(text, 0, "")
    match = _ARN.fullmatch(text)
    if match is None or match["version"]:
        raise bad_value(f"Invalid layer name or ARN: {text[:200]}")
    return LayerReference(match["name"], 0, match["account"])


def parse_layer_version_arn(text: str) -> LayerReference:
    """The ARN of a layer version. bad_value."""
    match = _ARN.fullmatch(text)
    if match is None or not match["version"]:
        raise bad_value(
            f"{text[:200]!r} is no ARN of a layer version such as arn:aws:lambda:REGION:ACCOUNT:layer:NAME:1"
        )
    return LayerReference(match["name"], int(match["version"]), match["account"])


def layer_arn(call: Call, kept_name: str) -> str:
    """The ARN of a function's layer. Those that the API set carry NAME:VERSION; of others the first version is told."""
    name, _, version = kept_name.rpartition(":")
    if not name or not version.isdecimal():
        name, version = re.sub(r"[^A-Za-z0-9_-]", "-", kept_name)[:140], "1"
    return call.arn(f"layer:{name}:{version}")
