"""AWS's event filter patterns: which records of a queue a mapping wants. Pure; ValueError has a sentence.

A pattern is a JSON object whose leaves are lists of rules: a value, or one of prefix, suffix, equals-ignore-case,
anything-but, numeric and exists; `$or` holds alternatives (Lambda developer guide, "Filter rule syntax"). All fields of
a pattern must match, one rule of a list is enough. A list in the record matches when one of its elements does. Numbers
are compared by value. What is not on that page is refused instead of read in some way.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from services.policy.filter_rules import ABSENT, FieldRules, is_number, range_of

# Lambda's own bound.
MAX_PATTERN_CHARACTERS = 4_096
# Objects within objects; AWS names no bound, a pattern of 4,096 characters may be hundreds deep.
MAX_DEPTH = 32
# EventBridge's range of numbers in rules.
MAX_NUMBER = 5e9
OR = "$or"

# Fields, branches and values that one record may be looked at for: most records need a few hundred of these, and one of
# 256 KB with a value every fourth byte has 65,000.
MAX_STEPS = 1_000_000
# Characters of the patterns times those of a body: up to this a record takes a few milliseconds at worst.
MAX_QUICK_PRODUCT = 250_000
_COMPARISONS = ("=", "<", "<=", ">", ">=")
_LOWER, _UPPER = frozenset((">", ">=")), frozenset(("<", "<="))
_TEXT_RULES = ("prefix", "suffix", "equals-ignore-case")


class FilterTooCostly(Exception):
    """A record has so much in it that the filter asks about that finding out would take seconds."""


class Budget:
    """What is left for one record."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps = MAX_STEPS

    def spend(self, steps: int) -> None:
        """FilterTooCostly: it is used up."""
        self.steps -= steps
        if self.steps < 0:
            raise FilterTooCostly(f"its filter would take more than {MAX_STEPS:,} steps")


Rule = Callable[[Any, Budget], bool]


class Pattern:
    """One pattern, ready to match records."""

    __slots__ = ("_matches", "names_body")

    def __init__(self, text: str) -> None:
        """ValueError: the text is no pattern."""
        tree = _tree(text)
        self._matches = _object(tree, "", 0)
        # Without a word on the body its form does not matter.
        self.names_body = _names(tree, "body")

    def matches(self, record: Any, budget: Budget | None = None) -> bool:
        """Whether a record, as json.loads gives it, has everything that the pattern asks for. FilterTooCostly."""
        return self._matches(record, budget or Budget())


class SqsFilter:
    """The filter criteria of an SQS mapping; none let every record pass."""

    __slots__ = ("_characters", "_patterns", "_reads_body")

    def __init__(self, texts: Iterable[str]) -> None:
        """ValueError: one is no pattern."""
        texts = list(texts)
        self._patterns = [Pattern(text) for text in texts]
        self._characters = sum(map(len, texts))
        self._reads_body = any(pattern.names_body for pattern in self._patterns)

    def is_quick(self, record: Mapping[str, Any]) -> bool:
        """Whether `passes` takes so little time that a loop may wait for it."""
        return not self._reads_body or self._characters * len(record.get("body", "")) <= MAX_QUICK_PRODUCT

    def passes(self, record: Mapping[str, Any]) -> bool:
        """Whether one of the patterns matches a record of Lambda's SQS event.

        A body that is a JSON object or list is matched as that, any other as plain text: a pattern for the one never
        matches the other, as on AWS. FilterTooCostly: that cannot be found out in time.
        """
        if not self._patterns:
            return True
        if self._reads_body:
            record = {**record, "body": _body(record.get("body", ""))}
        budget = Budget()
        return any(pattern.matches(record, budget) for pattern in self._patterns)


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

    steps = 1 + len(fields) + len(branches)

    def matches_one(record: Any, budget: Budget) -> bool:
        budget.spend(steps)
        if not isinstance(record, dict):
            # A field of something that has none is not there, which is what "exists": false asks for.
            record = {}
        return all(rule(record.get(name, ABSENT), budget) for name, rule in fields) and (
            not branches or any(branch(record, budget) for branch in branches)
        )

    def matches(record: Any, budget: Budget) -> bool:
        # Fields of one object belong together: a list matches when one of its elements has all of them.
        return any(matches_one(one, budget) for one in _elements(record, budget) or [ABSENT])

    return matches


def _field(value: Any, path: str, depth: int) -> Rule:
    if isinstance(value, dict):
        return _object(value, path, depth + 1)
    if not isinstance(value, list) or not value:
        raise ValueError(f'{path} must be a list of values or rules that is not empty, such as ["a"], or an object')
    rules = FieldRules()
    for one in value:
        _add_rule(rules, one, path)
    rules.ready()

    def matches(found: Any, budget: Budget) -> bool:
        leaves = [one for one in _elements(found, budget) if not isinstance(one, dict)] or [ABSENT]
        return any(map(rules.matches, leaves))

    return matches


def _branches(value: Any, path: str, depth: int) -> list[Rule]:
    where = f"{path}.{OR}".lstrip(".")
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{where} must be a list of objects, any of which is to match")
    return [_object(one, where, depth + 1) for one in value]


def _elements(found: Any, budget: Budget) -> list[Any]:
    """What a field of a record holds, lists within lists laid flat; nothing when it is not there."""
    if found is ABSENT:
        return []
    if not isinstance(found, list):
        return [found]
    flat: list[Any] = []
    stack = [iter(found)]
    while stack:
        for one in stack[-1]:
            budget.spend(1)
            if isinstance(one, list):
                stack.append(iter(one))
                break
            flat.append(one)
        else:
            stack.pop()
    return flat


def _add_rule(rules: FieldRules, value: Any, path: str) -> None:
    if isinstance(value, dict):
        if len(value) != 1:
            raise ValueError(f'{path}: a rule is an object with one key, such as {{"prefix": "a"}}')
        ((name, operand),) = value.items()
        if name in _TEXT_RULES:
            rules.text(name, _text(name, operand, path))
        elif name in _RULES:
            _RULES[name](rules, operand, path)
        else:
            known = ", ".join((*_TEXT_RULES, *_RULES))
            raise ValueError(f"{path}: {name[:40]!r} is no rule; known are {known}")
    elif isinstance(value, list):
        raise ValueError(f"{path}: a list within a list matches nothing; name the values in one list")
    else:
        rules.equals(value)


def _anything_but(rules: FieldRules, operand: Any, path: str) -> None:
    if isinstance(operand, dict):
        if len(operand) != 1 or next(iter(operand)) not in _TEXT_RULES:
            raise ValueError(f"{path}: anything-but takes values or one of {', '.join(_TEXT_RULES)}")
        ((name, text),) = operand.items()
        rules.without(name, _text(name, text, path))
        return
    values = operand if isinstance(operand, list) else [operand]
    if not values or any(isinstance(one, dict | list | bool) or one is None for one in values):
        raise ValueError(f"{path}: anything-but takes a text, a number or a list of those that is not empty")
    rules.other_than(values)


def _exists(rules: FieldRules, operand: Any, path: str) -> None:
    if not isinstance(operand, bool):
        raise ValueError(f"{path}: exists takes true or false")
    rules.exists(wanted=operand)


def _numeric(rules: FieldRules, operand: Any, path: str) -> None:
    wrong = f'{path}: numeric takes a comparison or a range, such as ["=", 5] or [">", 0, "<=", 5]'
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise ValueError(wrong)
    pairs = [(operand[at], operand[at + 1]) for at in range(0, len(operand), 2)]
    for name, number in pairs:
        if not isinstance(name, str) or name not in _COMPARISONS or not is_number(number):
            raise ValueError(wrong)
        if not -MAX_NUMBER <= number <= MAX_NUMBER:
            raise ValueError(f"{path}: numbers in rules are within -5.0e9 to 5.0e9")
    if len(pairs) == 2:
        (low_name, low), (high_name, high) = pairs
        if low_name not in _LOWER or high_name not in _UPPER or low >= high:
            raise ValueError(f"{path}: a numeric range goes from the lower bound to the higher one: {wrong}")
        rules.number_within(range_of(low_name, low)[0], range_of(high_name, high)[1])
    else:
        rules.number_within(*range_of(*pairs[0]))


def _text(name: str, operand: Any, path: str) -> str:
    if not isinstance(operand, str):
        raise ValueError(f"{path}: {name} takes a text")
    return operand


_RULES: Mapping[str, Callable[[FieldRules, Any, str], None]] = {
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}
