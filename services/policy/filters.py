"""AWS's event filter patterns: which records of a queue a mapping wants. Pure; ValueError has a sentence.

A pattern is a JSON object whose leaves are lists of rules: a value, or one of prefix, suffix, equals-ignore-case,
anything-but, numeric and exists; `$or` holds alternatives (Lambda developer guide, "Filter rule syntax"). All fields of
a pattern must match, one rule of a list is enough. A list in the record matches when one of its elements does. Numbers
are compared by value. What is not on that page is refused instead of read in some way.
"""

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Lambda's own bound.
MAX_PATTERN_CHARACTERS = 4_096
# Objects within objects; AWS names no bound, a pattern of 4,096 characters may be hundreds deep.
MAX_DEPTH = 32
# EventBridge's range of numbers in rules.
MAX_NUMBER = 5e9
OR = "$or"

Rule = Callable[[Any], bool]
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LOWER, _UPPER = frozenset((">", ">=")), frozenset(("<", "<="))
_ABSENT = object()


class Pattern:
    """One pattern, ready to match records."""

    __slots__ = ("_matches", "names_body")

    def __init__(self, text: str) -> None:
        """ValueError: the text is no pattern."""
        tree = _tree(text)
        self._matches = _object(tree, "", 0)
        # Without a word on the body its form does not matter.
        self.names_body = _names(tree, "body")

    def matches(self, record: Any) -> bool:
        """Whether a record, as json.loads gives it, has everything that the pattern asks for."""
        return self._matches(record)


class SqsFilter:
    """The filter criteria of an SQS mapping; none let every record pass."""

    __slots__ = ("_patterns", "_reads_body")

    def __init__(self, texts: Iterable[str]) -> None:
        """ValueError: one is no pattern."""
        self._patterns = [Pattern(text) for text in texts]
        self._reads_body = any(pattern.names_body for pattern in self._patterns)

    def passes(self, record: Mapping[str, Any]) -> bool:
        """Whether one of the patterns matches a record of Lambda's SQS event.

        A body that is a JSON object or list is matched as that, any other as plain text: a pattern for the one never
        matches the other, as on AWS.
        """
        if not self._patterns:
            return True
        if self._reads_body:
            record = {**record, "body": _body(record.get("body", ""))}
        return any(pattern.matches(record) for pattern in self._patterns)


def check_pattern(text: str) -> None:
    """Pass when this is a filter pattern. ValueError says what is wrong with it."""
    Pattern(text)


def _body(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _tree(text: str) -> dict[str, Any]:
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise ValueError(f"a filter pattern has at most {MAX_PATTERN_CHARACTERS:,} characters, not {len(text):,}")
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ValueError(f"a filter pattern is at most {MAX_DEPTH} objects deep") from None
    except ValueError as e:
        raise ValueError(f"a filter pattern is a JSON object; this is no JSON: {e}") from None
    if not isinstance(tree, dict):
        raise ValueError('a filter pattern is a JSON object such as {"body": {"kind": ["order"]}}')
    return tree


def _names(tree: dict[str, Any], name: str) -> bool:
    branches = tree.get(OR)
    return name in tree or (isinstance(branches, list) and any(_names(b, name) for b in branches))


# --- from the JSON to a rule


def _object(tree: dict[str, Any], path: str, depth: int) -> Rule:
    if not tree:
        raise ValueError(f"{path or 'the pattern'} is empty: name a field, with a list of values")
    if depth >= MAX_DEPTH:
        raise ValueError(f"a filter pattern is at most {MAX_DEPTH} objects deep")
    fields = [(name, _field(value, f"{path}.{name}".lstrip("."), depth)) for name, value in tree.items() if name != OR]
    branches = _branches(tree[OR], path, depth) if OR in tree else []

    def matches_one(record: Any) -> bool:
        if not isinstance(record, dict):
            # A field of something that has none is not there, which is what "exists": false asks for.
            record = {}
        return all(rule(record.get(name, _ABSENT)) for name, rule in fields) and (
            not branches or any(branch(record) for branch in branches)
        )

    def matches(record: Any) -> bool:
        # Fields of one object belong together: a list matches when one of its elements has all of them.
        return any(map(matches_one, _elements(record) or [_ABSENT]))

    return matches


def _field(value: Any, path: str, depth: int) -> Rule:
    if isinstance(value, dict):
        return _object(value, path, depth + 1)
    if not isinstance(value, list) or not value:
        raise ValueError(f'{path} must be a list of values or rules that is not empty, such as ["a"], or an object')
    rules = [_rule(one, path) for one in value]

    def matches(found: Any) -> bool:
        leaves = [one for one in _elements(found) if not isinstance(one, dict)] or [_ABSENT]
        return any(rule(leaf) for leaf in leaves for rule in rules)

    return matches


def _branches(value: Any, path: str, depth: int) -> list[Rule]:
    where = f"{path}.{OR}".lstrip(".")
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{where} must be a list of objects, any of which is to match")
    return [_object(one, where, depth + 1) for one in value]


def _elements(found: Any) -> list[Any]:
    """What a field of a record holds, lists within lists laid flat; nothing when it is not there."""
    if found is _ABSENT:
        return []
    if not isinstance(found, list):
        return [found]
    flat: list[Any] = []
    stack = [iter(found)]
    while stack:
        for one in stack[-1]:
            if isinstance(one, list):
                stack.append(iter(one))
                break
            flat.append(one)
        else:
            stack.pop()
    return flat


def _rule(value: Any, path: str) -> Rule:
    if isinstance(value, dict):
        if len(value) != 1:
            raise ValueError(f'{path}: a rule is an object with one key, such as {{"prefix": "a"}}')
        ((name, operand),) = value.items()
        made = _RULES.get(name)
        if made is None:
            raise ValueError(f"{path}: {name[:40]!r} is no rule; known are {', '.join(_RULES)}")
        return made(operand, path)
    if isinstance(value, list):
        raise ValueError(f"{path}: a list within a list matches nothing; name the values in one list")
    return _equals(value)


def _equals(value: Any) -> Rule:
    # To Python True is 1, to JSON it is not.
    is_boolean = isinstance(value, bool)
    return lambda found: found is not _ABSENT and isinstance(found, bool) == is_boolean and bool(found == value)


def _prefix(operand: Any, path: str) -> Rule:
    text = _text("prefix", operand, path)
    return lambda found: isinstance(found, str) and found.startswith(text)


def _suffix(operand: Any, path: str) -> Rule:
    text = _text("suffix", operand, path)
    return lambda found: isinstance(found, str) and found.endswith(text)


def _equals_ignore_case(operand: Any, path: str) -> Rule:
    text = _text("equals-ignore-case", operand, path).casefold()
    return lambda found: isinstance(found, str) and found.casefold() == text


def _anything_but(operand: Any, path: str) -> Rule:
    if isinstance(operand, dict):
        inner = {name: _RULES[name] for name in ("prefix", "suffix", "equals-ignore-case")}
        if len(operand) != 1 or next(iter(operand)) not in inner:
            raise ValueError(f"{path}: anything-but takes values or one of {', '.join(inner)}")
        ((name, text),) = operand.items()
        rules = [inner[name](text, path)]
    else:
        values = operand if isinstance(operand, list) else [operand]
        if not values or any(isinstance(one, dict | list | bool) or one is None for one in values):
            raise ValueError(f"{path}: anything-but takes a text, a number or a list of those that is not empty")
        rules = [_equals(one) for one in values]
    return lambda found: found is not _ABSENT and not any(rule(found) for rule in rules)


def _exists(operand: Any, path: str) -> Rule:
    if not isinstance(operand, bool):
        raise ValueError(f"{path}: exists takes true or false")
    return lambda found: (found is not _ABSENT) == operand


def _numeric(operand: Any, path: str) -> Rule:
    wrong = f'{path}: numeric takes a comparison or a range, such as ["=", 5] or [">", 0, "<=", 5]'
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise ValueError(wrong)
    pairs = [(operand[at], operand[at + 1]) for at in range(0, len(operand), 2)]
    for name, number in pairs:
        if not isinstance(name, str) or name not in _COMPARISONS or not _is_number(number):
            raise ValueError(wrong)
        if not -MAX_NUMBER <= number <= MAX_NUMBER:
            raise ValueError(f"{path}: numbers in rules are within -5.0e9 to 5.0e9")
    if len(pairs) == 2:
        (low_name, low), (high_name, high) = pairs
        if low_name not in _LOWER or high_name not in _UPPER or low >= high:
            raise ValueError(f"{path}: a numeric range goes from the lower bound to the higher one: {wrong}")
    return lambda found: _is_number(found) and all(_COMPARISONS[name](found, number) for name, number in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(name: str, operand: Any, path: str) -> str:
    if not isinstance(operand, str):
        raise ValueError(f"{path}: {name} takes a text")
    return operand


_RULES: Mapping[str, Callable[[Any, str], Rule]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}
