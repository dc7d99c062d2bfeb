"""Cross-origin rules of function URLs: which origins a pattern lets in, and that no pattern costs much."""

import time

import pytest

from services.policy.cors import CorsRules, response_headers
from services.policy.rules import RuleBroken
from services.policy.url_rules import CorsSpec, check_url

# A pattern that an older version stored: a backtracking engine takes minutes with six stars, and ever more with more.
MANY_STARS = "https://" + "*a" * 6 + "b"
HELD_SECONDS = 1.0


def lets_in(pattern: str, origin: str) -> bool:
    return bool(response_headers(CorsRules(allow_origins=(pattern,)), {"origin": origin}))


@pytest.mark.parametrize(
    ("pattern", "origin", "is_in"),
    [
        ("*", "https://a.example", True),
        ("https://a.example", "https://A.example", True),
        ("https://*.example.com", "https://shop.example.com", True),
        ("https://*.example.com", "https://shop.example.com.evil.test", False),
        ("https://*.example.com", "http://shop.example.com", False),
        ("https://a?.example.com", "https://ab.example.com", False),
        ("https://a.example", "https://axexample", False),
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_is_a_wildcard(pattern: str, origin: str, is_in: bool) -> None:
    assert lets_in(pattern, origin) == is_in


def test_no_pattern_holds_the_loop() -> None:
    started = time.monotonic()
    assert not lets_in(MANY_STARS, "https://" + "a" * 120)
    assert time.monotonic() - started < HELD_SECONDS


def test_an_origin_has_one_star_at_most() -> None:
    check_url("NONE", "BUFFERED", CorsSpec(allow_origins=("*", "https://*.example.com")))
    with pytest.raises(RuleBroken, match="name several origins instead"):
        check_url("NONE", "BUFFERED", CorsSpec(allow_origins=("https://*.example.*",)))
