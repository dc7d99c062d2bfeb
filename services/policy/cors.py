"""Cross-origin rules of function URLs: which headers a browser gets. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.policy.patterns import matches

ANY = "*"


@dataclass(frozen=True, slots=True)
class CorsRules:
    """As CreateFunctionUrlConfig takes them; empty lists allow nothing."""

    allow_origins: Sequence[str] = ()
    allow_methods: Sequence[str] = ()
    allow_headers: Sequence[str] = ()
    expose_headers: Sequence[str] = ()
    allow_credentials: bool = False
    max_age_seconds: int = 0


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser asks what it may do, before it does it."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight_headers(rules: CorsRules, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Of the answer to such a question; empty: not from this origin."""
    found = response_headers(rules, headers)
    if not found:
        return []
    found = [(name, value) for name, value in found if name != "access-control-expose-headers"]
    if rules.allow_methods:
        found.append(("access-control-allow-methods", ",".join(rules.allow_methods)))
    if rules.allow_headers:
        found.append(("access-control-allow-headers", ",".join(rules.allow_headers)))
    if rules.max_age_seconds:
        found.append(("access-control-max-age", str(rules.max_age_seconds)))
    return found


def response_headers(rules: CorsRules, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Of every response to this origin; they stand for what the function itself says of them."""
    origin = headers.get("origin", "")
    if not origin or not any(_matches(pattern, origin) for pattern in rules.allow_origins):
        return []
    # Browsers refuse "*" together with credentials.
    is_any = ANY in rules.allow_origins and not rules.allow_credentials
    found = [("access-control-allow-origin", ANY if is_any else origin)]
    if not is_any:
        found.append(("vary", "Origin"))
    if rules.allow_credentials:
        found.append(("access-control-allow-credentials", "true"))
    if rules.expose_headers:
        found.append(("access-control-expose-headers", ",".join(rules.expose_headers)))
    return found


def _matches(pattern: str, origin: str) -> bool:
    # "?" is no wildcard of origins and cannot be in one either.
    return "?" not in pattern and matches(pattern.lower(), origin.lower())
