"""How a broken rule is told: the field by its name in the contract, and a sentence for who asked."""


class RuleBroken(ValueError):
    """A field breaks a rule; `field_name` is its name in the contract, the text a sentence for who deploys.

    `is_whole`: the text stands by itself, in the words that AWS has for it.
    """

    def __init__(self, field_name: str, text: str, *, is_whole: bool = False) -> None:
        super().__init__(text if is_whole else f"{field_name}: {text}")
        self.field_name = field_name


def within(field_name: str, value: int, low: int, high: int) -> None:
    """Pass for low to high, both included. RuleBroken."""
    if not low <= value <= high:
        raise RuleBroken(field_name, f"must be within {low:,} to {high:,}, not {value:,}")


def at_most(field_name: str, text: str, limit: int) -> None:
    """Pass for at most so many characters. RuleBroken."""
    if len(text) > limit:
        raise RuleBroken(field_name, f"at most {limit:,} characters, not {len(text):,}")
