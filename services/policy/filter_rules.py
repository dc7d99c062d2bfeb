"""The rules of one field of a filter pattern, put together so that a value is held against all of them at once. Pure.

However many rules a field has, a value costs about what reading it costs: literals are looked up in sets, numeric
ranges in sorted ones without overlaps, prefixes and suffixes by the lengths that there are. See filters.py.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

# A field that the record lacks.
ABSENT = object()
# Below and above a number n in the order of bounds: (n, _BEFORE) < (n, _AT) < (n, _AFTER).
_BEFORE, _AT, _AFTER = 0, 1, 2
_INFINITY = float("inf")
Bound = tuple[float, int]
Range = tuple[Bound, Bound]


class FieldRules:
    """Any of these is enough. Add all of them, then call `ready`."""

    def __init__(self) -> None:
        self.matches_absent = False
        self._matches_any = False
        self._literals = Literals()
        self._excepted: Literals | None = None
        self._ranges: list[Range] = []
        self._lows: list[Bound] = []
        self._prefixes = _Ends(is_suffix=False)
        self._suffixes = _Ends(is_suffix=True)
        self._folded: set[str] = set()
        # Texts of which a value that is there must not have one: no prefix, no suffix, no such text.
        self._not_prefixes: set[str] = set()
        self._not_suffixes: set[str] = set()
        self._not_folded: set[str] = set()

    def equals(self, value: Any) -> None:
        """A text, a number, true, false or null."""
        self._literals.add(value)

    def exists(self, *, wanted: bool) -> None:
        """Whether the field is there."""
        if wanted:
            self._matches_any = True
        else:
            self.matches_absent = True

    def number_within(self, low: Bound | None, high: Bound | None) -> None:
        """See `at_least` and its like; None: without bound."""
        self._ranges.append((low or (-_INFINITY, _BEFORE), high or (_INFINITY, _AFTER)))

    def text(self, name: str, text: str) -> None:
        """prefix, suffix or equals-ignore-case."""
        match name:
            case "prefix":
                self._prefixes.add(text)
            case "suffix":
                self._suffixes.add(text)
            case _:
                self._folded.add(text.casefold())

    def other_than(self, values: Iterable[Any]) -> None:
        """Anything but these."""
        excepted = Literals(values)
        # Any rule is enough: only what every one of them excepts is kept out.
        self._excepted = excepted if self._excepted is None else self._excepted.both(excepted)

    def without(self, name: str, text: str) -> None:
        """Anything but what has this prefix or suffix, or is this text in any case."""
        match name:
            case "prefix":
                self._not_prefixes.add(text)
            case "suffix":
                self._not_suffixes.add(text)
            case _:
                self._not_folded.add(text.casefold())

    def ready(self) -> None:
        """All rules are there."""
        merged: list[Range] = []
        for low, high in sorted(self._ranges):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
            else:
                merged.append((low, high))
        self._ranges = merged
        self._lows = [low for low, _ in merged]

    def matches(self, found: Any) -> bool:
        """Whether one of the rules takes this value: a text, a number, true, false or null, or ABSENT."""
        if found is ABSENT:
            return self.matches_absent
        if self._matches_any or self._literals.has(found):
            return True
        if self._excepted is not None and not self._excepted.has(found):
            return True
        if isinstance(found, str):
            return self._matches_text(found)
        if self._not_prefixes or self._not_suffixes or self._not_folded:
            return True
        return bool(self._ranges) and is_number(found) and self._matches_number(found)

    def _matches_number(self, found: float) -> bool:
        point = (found, _AT)
        at = bisect_left(self._lows, point) - 1
        return at >= 0 and self._ranges[at][0] < point < self._ranges[at][1]

    def _matches_text(self, found: str) -> bool:
        if self._prefixes.has_one_of(found) or self._suffixes.has_one_of(found):
            return True
        # The first of these that is not so ends it: as many as the text is long can be so, or one.
        if not all(map(found.startswith, self._not_prefixes)) or not all(map(found.endswith, self._not_suffixes)):
            return True
        if not self._folded and not self._not_folded:
            return False
        folded = found.casefold()
        return folded in self._folded or any(folded != text for text in self._not_folded)


class Literals:
    """Values to be equal to; numbers by value, while true is no 1, which it is to Python."""

    __slots__ = ("_booleans", "_others")

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self._booleans: set[bool] = set()
        self._others: set[Any] = set()
        for value in values:
            self.add(value)

    def add(self, value: Any) -> None:
        """One more."""
        (self._booleans if isinstance(value, bool) else self._others).add(value)

    def has(self, found: Any) -> bool:
        """Whether one of them is equal to it."""
        return found in (self._booleans if isinstance(found, bool) else self._others)

    def both(self, other: "Literals") -> "Literals":
        """Those that are in each of the two."""
        made = Literals()
        made._booleans, made._others = self._booleans & other._booleans, self._others & other._others
        return made


class _Ends:
    """Beginnings of texts, or their ends."""

    def __init__(self, *, is_suffix: bool) -> None:
        self._is_suffix = is_suffix
        self._texts: set[str] = set()
        self._lengths: list[int] = []

    def add(self, text: str) -> None:
        self._texts.add(text)
        self._lengths = sorted({len(one) for one in self._texts})

    def has_one_of(self, found: str) -> bool:
        for length in self._lengths:
            if length > len(found):
                return False
            if (found[len(found) - length :] if self._is_suffix else found[:length]) in self._texts:
                return True
        return False


def range_of(name: str, number: float) -> tuple[Bound | None, Bound | None]:
    """The low and the high bound of one comparison."""
    match name:
        case "<":
            return None, (number, _BEFORE)
        case "<=":
            return None, (number, _AFTER)
        case ">":
            return (number, _AFTER), None
        case ">=":
            return (number, _BEFORE), None
    return (number, _BEFORE), (number, _AFTER)


def is_number(value: Any) -> bool:
    """As JSON has it: true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
