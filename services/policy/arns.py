"""Function names as AWS takes them: a bare name, a partial ARN or a full ARN, each with or without a qualifier."""

import re
from dataclasses import dataclass

LATEST = "$LATEST"
MAX_FUNCTION_REFERENCE = 170
# A region of AWS as ARNs name it, eusc-de-east-1 included.
REGION = r"[a-z]{2,4}(?:-[a-z]+)+-\d"
_NAME = r"[A-Za-z0-9_-]{1,64}"
_QUALIFIER = r"\$LATEST|[A-Za-z0-9_-]{1,128}"
_REFERENCE = re.compile(
    rf"(?:arn:(?P<partition>aws[a-z-]*):lambda:)?"
    rf"(?:(?P<region>[a-z]{{2}}(?:-[a-z]+)+-\d):)?(?:(?P<account>\d{{12}}):)?(?:function:)?"
    rf"(?P<name>{_NAME})(?::(?P<qualifier>{_QUALIFIER}))?"
)
_QUALIFIER_ONLY = re.compile(_QUALIFIER)


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """What a caller named: account and region are None unless the ARN had them."""

    function_name: str
    qualifier: str
    account_id: str | None
    region: str | None


def parse_reference(text: str, qualifier: str = "") -> FunctionReference:
    """Split a function reference. ValueError, with a sentence for the caller: bad form or two different qualifiers."""
    match = _REFERENCE.fullmatch(text) if len(text) <= MAX_FUNCTION_REFERENCE else None
    if match is None:
        raise ValueError(f"{text[:200]!r} is no function name, partial ARN or ARN")
    named = match["qualifier"] or ""
    if qualifier and not _QUALIFIER_ONLY.fullmatch(qualifier):
        raise ValueError(f"{qualifier[:200]!r} is no version or alias")
    if named and qualifier and named != qualifier:
        raise ValueError(f"the name says qualifier {named!r} and the request says {qualifier!r}: give one")
    return FunctionReference(match["name"], named or qualifier or LATEST, match["account"], match["region"])


def function_arn(region: str, account_id: str, function_name: str, qualifier: str = "") -> str:
    """The function's ARN, qualified when a qualifier is given."""
    arn = f"arn:aws:lambda:{region}:{account_id}:function:{function_name}"
    return f"{arn}:{qualifier}" if qualifier else arn
