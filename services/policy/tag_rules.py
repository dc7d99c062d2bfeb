"""What tags may look like. Pure; RuleBroken says what to do."""

from collections.abc import Mapping

from services.policy.rules import RuleBroken, at_most

MAX_TAGS = 50
MAX_KEY_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 256
_OF_AWS = "aws:"


def check_tags(tags: Mapping[str, str]) -> None:
    """Pass for up to 50, keys of 1 to 128 characters, values of at most 256. RuleBroken."""
    if len(tags) > MAX_TAGS:
        raise RuleBroken("tags", f"at most {MAX_TAGS}, not {len(tags)}: remove some")
    for key, value in tags.items():
        if not key:
            raise RuleBroken("tags", "a key must have at least 1 character")
        if key.startswith(_OF_AWS):
            raise RuleBroken("tags", f"{key[:80]!r}: keys that begin with {_OF_AWS} are not for users; rename it")
        at_most("tags", key, MAX_KEY_CHARACTERS)
        at_most("tags", value, MAX_VALUE_CHARACTERS)
