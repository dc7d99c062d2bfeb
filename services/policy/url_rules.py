"""What a function URL may look like. Pure; RuleBroken says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.policy.rules import RuleBroken, at_most, within

AUTH_TYPES = ("NONE", "AWS_IAM")
INVOKE_MODES = ("BUFFERED", "RESPONSE_STREAM")
METHODS = ("GET", "PUT", "HEAD", "POST", "PATCH", "DELETE", "*")
MAX_METHODS = 6
MAX_HEADERS = 100
MAX_HEADER_CHARACTERS = 1_024
MAX_ORIGINS = 100
MAX_ORIGIN_CHARACTERS = 253
MAX_ORIGIN_STARS = 1
MAX_AGE_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class CorsSpec:
    """Cross-origin rules as asked for."""

    allow_headers: Sequence[str] = ()
    allow_methods: Sequence[str] = ()
    allow_origins: Sequence[str] = ()
    expose_headers: Sequence[str] = ()
    max_age_seconds: int = 0


def check_url(auth_type: str, invoke_mode: str, cors: CorsSpec) -> None:
    """Pass when every part keeps its rule. RuleBroken."""
    _one_of("auth_type", auth_type, AUTH_TYPES)
    _one_of("invoke_mode", invoke_mode, INVOKE_MODES)
    _count("cors.allow_methods", cors.allow_methods, MAX_METHODS)
    for method in cors.allow_methods:
        _one_of("cors.allow_methods", method, METHODS)
    _count("cors.allow_origins", cors.allow_origins, MAX_ORIGINS)
    for origin in cors.allow_origins:
        _text("cors.allow_origins", origin, MAX_ORIGIN_CHARACTERS)
        if origin.count("*") > MAX_ORIGIN_STARS:
            text = f"{origin[:40]!r} has more than {MAX_ORIGIN_STARS} '*': name several origins instead"
            raise RuleBroken("cors.allow_origins", text)
    for field_name, headers in (
        ("cors.allow_headers", cors.allow_headers),
        ("cors.expose_headers", cors.expose_headers),
    ):
        _count(field_name, headers, MAX_HEADERS)
        for header in headers:
            _text(field_name, header, MAX_HEADER_CHARACTERS)
    within("cors.max_age_seconds", cors.max_age_seconds, 0, MAX_AGE_SECONDS)


def _one_of(field_name: str, value: str, values: Sequence[str]) -> None:
    if value not in values:
        raise RuleBroken(field_name, f"{value[:40]!r} must be one of {', '.join(values)}")


def _count(field_name: str, values: Sequence[str], limit: int) -> None:
    if len(values) > limit:
        raise RuleBroken(field_name, f"at most {limit}, not {len(values)}")


def _text(field_name: str, value: str, limit: int) -> None:
    at_most(field_name, value, limit)
    # It goes into a header of an answer.
    if not value or not value.isascii() or not value.isprintable():
        raise RuleBroken(field_name, f"{value[:40]!r} must be printable ASCII, not empty")
