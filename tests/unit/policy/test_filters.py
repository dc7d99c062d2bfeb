"""Filter patterns: every rule of AWS's list, what records they let through, and what is refused."""

import json
import operator
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.filters import (
    MAX_DEPTH,
    MAX_PATTERN_CHARACTERS,
    FilterTooCostly,
    Pattern,
    SqsFilter,
    check_pattern,
)


def matches(pattern: dict[str, Any], record: Any) -> bool:
    return Pattern(json.dumps(pattern)).matches(record)


@pytest.mark.parametrize(
    ("rules", "found", "expected"),
    [
        (["a", "b"], "b", True),
        (["a"], "A", False),
        ([5], 5.0, True),
        ([1], True, False),
        ([True], True, True),
        ([True], 1, False),
        ([None], None, True),
        ([None], "", False),
        ([""], "", True),
        ([{"prefix": "eu-"}], "eu-west-1", True),
        ([{"prefix": "eu-"}], 5, False),
        ([{"suffix": ".wav"}], "a.wav", True),
        ([{"suffix": ".wav"}], "a.wave", False),
        ([{"equals-ignore-case": "aLiCe"}], "ALICE", True),
        ([{"equals-ignore-case": "alice"}], "alicia", False),
        ([{"anything-but": "a"}], "b", True),
        ([{"anything-but": ["a", 5]}], 5, False),
        ([{"anything-but": ["a", 5]}], None, True),
        ([{"anything-but": {"prefix": "x"}}], "xy", False),
        ([{"anything-but": {"suffix": "x"}}], "xy", True),
        ([{"numeric": ["=", 5]}], 5, True),
        ([{"numeric": ["=", 5]}], "5", False),
        ([{"numeric": [">", 0, "<=", 5]}], 5, True),
        ([{"numeric": [">", 0, "<=", 5]}], 0, False),
        ([{"numeric": ["<", 1]}], True, False),
        ([{"exists": True}], None, True),
        ([{"exists": True}], {"inner": 1}, False),
        ([{"exists": False}], "x", False),
        ([{"exists": False}], {"inner": 1}, True),
        (["a"], ["b", "a"], True),
        ([{"anything-but": "a"}], ["a", "b"], True),
        ([{"exists": False}], [], True),
        (["a"], [["a"]], True),
        (["x", {"prefix": "a"}], "ab", True),
    ],
)
def test_each_rule_matches_what_aws_says(rules: list[Any], found: Any, expected: bool) -> None:
    """One field with a list of rules, against one value."""
    assert matches({"field": rules}, {"field": found}) is expected


def test_a_field_that_is_not_there_matches_only_exists_false() -> None:
    """Every other rule asks for a value; also anything-but does."""
    for rules in (["a"], [None], [{"anything-but": "a"}], [{"exists": True}], [{"numeric": ["<", 5]}]):
        assert not matches({"field": rules}, {})
    assert matches({"field": [{"exists": False}]}, {})
    assert matches({"field": {"inner": [{"exists": False}]}}, {"field": "no object"})


def test_fields_are_all_needed_and_alternatives_are_not() -> None:
    """Fields of an object are an and, $or is an or beside them."""
    pattern = {"city": ["Seattle"], "$or": [{"day": [1]}, {"hour": [{"numeric": [">", 12]}]}]}
    assert matches(pattern, {"city": "Seattle", "day": 1, "hour": 1})
    assert matches(pattern, {"city": "Seattle", "day": 2, "hour": 13})
    assert not matches(pattern, {"city": "Seattle", "day": 2, "hour": 12})
    assert not matches(pattern, {"city": "Oslo", "day": 1})


def test_fields_of_a_pattern_match_in_one_element_of_a_list() -> None:
    """An object that has both, not two objects that have one each."""
    pattern = {"items": {"kind": ["a"], "count": [1]}}
    assert matches(pattern, {"items": [{"kind": "b", "count": 2}, {"kind": "a", "count": 1}]})
    assert not matches(pattern, {"items": [{"kind": "a", "count": 2}, {"kind": "b", "count": 1}]})


@pytest.mark.parametrize(
    ("pattern", "body", "expected"),
    [
        ({"body": {"kind": ["order"]}}, '{"kind": "order"}', True),
        ({"body": {"kind": ["order"]}}, "order", False),
        ({"body": {"kind": ["order"]}}, '{"kind": "order"', False),
        ({"body": [{"prefix": "or"}]}, "order", True),
        ({"body": [{"prefix": "{"}]}, '{"kind": "order"}', False),
        ({"body": ["5"]}, "5", True),
        ({"attributes": {"ApproximateReceiveCount": ["1"]}}, "any {", True),
        ({"messageAttributes": {"city": {"stringValue": ["Oslo"]}}}, "", True),
        ({"body": {"kind": ["order"]}, "awsRegion": ["other"]}, '{"kind": "order"}', False),
    ],
)
def test_the_body_of_a_record_is_matched_in_its_own_form(pattern: dict[str, Any], body: str, expected: bool) -> None:
    """JSON by a pattern of fields, text by a list of rules; the one never matches the other. Metadata does not care."""
    record = {
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {"city": {"stringValue": "Oslo", "dataType": "String"}},
        "awsRegion": "us-east-1",
    }
    assert SqsFilter([json.dumps(pattern)]).passes(record) is expected


def test_one_of_several_patterns_is_enough_and_none_lets_all_pass() -> None:
    """Filters of a mapping are an or."""
    either = SqsFilter(['{"body": ["a"]}', '{"body": ["b"]}'])
    assert [body for body in "abc" if either.passes({"body": body})] == ["a", "b"]
    assert SqsFilter([]).passes({"body": "c"})


def deep(levels: int) -> str:
    return '{"a":' * levels + '["x"]' + "}" * levels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "no JSON"),
        ("[]", "JSON object"),
        ("{}", "empty"),
        ('{"body": {}}', "body is empty"),
        ('{"body": "a"}', "must be a list"),
        ('{"body": []}', "must be a list"),
        ('{"body": [["a"]]}', "list within a list"),
        ('{"body": [{"wildcard": "a*"}]}', "known are prefix"),
        ('{"body": [{"prefix": "a", "suffix": "b"}]}', "one key"),
        ('{"body": [{"prefix": 5}]}', "takes a text"),
        ('{"body": [{"exists": "yes"}]}', "true or false"),
        ('{"body": [{"anything-but": []}]}', "anything-but"),
        ('{"body": [{"anything-but": {"numeric": ["=", 1]}}]}', "anything-but"),
        ('{"body": [{"numeric": [5]}]}', "comparison"),
        ('{"body": [{"numeric": ["=", "5"]}]}', "comparison"),
        ('{"body": [{"numeric": ["<", 5, ">", 0]}]}', "lower bound"),
        ('{"body": [{"numeric": ["<", 6e9]}]}', "-5.0e9"),
        ('{"$or": []}', "any of which"),
        ('{"$or": [5]}', "any of which"),
        ("[" * 5_000, "characters"),
        (deep(MAX_DEPTH + 1), "deep"),
        ('{"a":["' + "x" * MAX_PATTERN_CHARACTERS + '"]}', "characters"),
    ],
)
def test_a_wrong_pattern_is_refused_with_a_sentence(text: str, said: str) -> None:
    """Nothing that AWS would not take is read in some way; the sentence says where it is wrong."""
    with pytest.raises(ValueError, match=said):
        check_pattern(text)


def test_a_deep_pattern_within_the_bound_is_taken() -> None:
    """The bound itself is allowed."""
    check_pattern(deep(MAX_DEPTH))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["a", "b", "", "{", "[1]", '{"a":1}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "$or"]), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, json_values)
def test_any_json_is_either_a_pattern_or_refused_and_matching_never_fails(pattern: Any, record: Any) -> None:
    """No record breaks a pattern, and no text breaks the reader but with its own ValueError."""
    try:
        found = Pattern(json.dumps(pattern))
    except ValueError:
        return
    assert found.matches(record) in (True, False)
    assert SqsFilter([json.dumps(pattern)]).passes({"body": json.dumps(record)}) in (True, False)


@given(st.lists(st.sampled_from(["a", "b", 1, 2]), min_size=1, max_size=3), st.sampled_from(["a", "b", 1, 2, "c", 3]))
def test_anything_but_is_the_opposite_of_equality(values: list[Any], found: Any) -> None:
    """For one value that is there."""
    assert matches({"f": values}, {"f": found}) is not matches({"f": [{"anything-but": values}]}, {"f": found})


COMPARISONS = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
NUMBERS = st.sampled_from((-1, 0, 0.5, 1, 2, 2.5, 3))


@given(st.lists(st.tuples(st.sampled_from(sorted(COMPARISONS)), NUMBERS), min_size=1, max_size=4), NUMBERS)
def test_ranges_put_together_take_what_one_of_them_takes(rules: list[tuple[str, float]], found: float) -> None:
    """Bounds that touch, overlap or leave a single number out."""
    expected = any(COMPARISONS[name](found, number) for name, number in rules)
    assert matches({"a": [{"numeric": list(rule)} for rule in rules]}, {"a": found}) is expected


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1), min_size=1, max_size=3), st.sampled_from("abcd"))
def test_several_rules_of_what_it_must_not_be_are_alternatives(excepted: list[list[str]], found: str) -> None:
    """Only what each of them excepts does not match."""
    rules = [{"anything-but": values} for values in excepted]
    assert matches({"a": rules}, {"a": found}) is any(found not in values for values in excepted)


@pytest.mark.parametrize(
    ("rules", "value"),
    [
        (list(range(1_000, 1_800)), 1),
        ([{"numeric": ["=", n]} for n in range(100, 270)], 1),
        ([{"prefix": f"a{n}"} for n in range(200)], "aa"),
        ([{"anything-but": {"prefix": "a" * (n % 2 + 1)}} for n in range(110)], "aa"),
    ],
)
def test_many_rules_cost_a_value_no_more_than_few(rules: list[Any], value: Any) -> None:
    """The longest patterns and bodies that there are; rule after rule, these took 2 to 34 seconds a message."""
    text = json.dumps({"body": {"k": rules}}, separators=(",", ":"))
    body = json.dumps({"k": [value] * (260_000 // (len(str(value)) + 3))}, separators=(",", ":"))
    begun = time.process_time()
    assert not SqsFilter([text]).passes({"body": body})
    assert time.process_time() - begun < 1.0


def test_what_would_take_seconds_is_given_up() -> None:
    """Alternatives within a list of objects: each would have to be looked at for each object."""
    pattern = json.dumps({"body": {"o": {"$or": [{"k": [n]} for n in range(250)]}}})
    begun = time.process_time()
    with pytest.raises(FilterTooCostly, match="steps"):
        SqsFilter([pattern]).passes({"body": json.dumps({"o": [{}] * 80_000})})
    assert time.process_time() - begun < 5.0
