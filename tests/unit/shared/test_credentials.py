"""Credentials of functions: derived from names, told apart, never forged."""

import pytest

from services.shared.credentials import (
    MAX_SESSION_TOKEN_CHARS,
    FunctionIdentity,
    fleet_secret,
    function_credentials,
    function_of,
)

SECRET = fleet_secret("t" * 32)


def test_the_same_names_give_the_same_credentials_and_tell_their_function() -> None:
    """A host derives what a door derives; the longest names fit."""
    tenant, function = "t" * 64, "F" * 64
    mine = function_credentials(SECRET, tenant, function, "12345")
    assert mine == function_credentials(SECRET, tenant, function, "12345")
    assert mine.access_key_id.startswith("EVFN") and mine.access_key_id.isalnum() and len(mine.access_key_id) == 20
    assert len(mine.secret_access_key) == 40
    assert len(mine.session_token) <= MAX_SESSION_TOKEN_CHARS
    assert function_of(SECRET, mine.access_key_id, mine.session_token) == (
        FunctionIdentity(tenant, function, "12345"),
        mine,
    )


def test_latest_is_one_version_however_it_is_named() -> None:
    """No version means $LATEST; the token holds no "$" for a shell to eat."""
    mine = function_credentials(SECRET, "default", "hello")
    assert mine == function_credentials(SECRET, "default", "hello", "")
    assert "$" not in mine.session_token
    found = function_of(SECRET, mine.access_key_id, mine.session_token)
    assert found is not None and found[0].version == "$LATEST"


def test_every_name_makes_other_credentials() -> None:
    """Two functions, tenants, versions or fleets share no part of them."""
    made = [
        function_credentials(SECRET, "a", "b", "1"),
        function_credentials(SECRET, "a", "b", "2"),
        function_credentials(SECRET, "a", "c", "1"),
        function_credentials(SECRET, "b", "b", "1"),
        function_credentials(fleet_secret("u" * 32), "a", "b", "1"),
    ]
    parts = [part for one in made for part in (one.access_key_id, one.secret_access_key, one.session_token)]
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize(
    ("old", "new"),
    [(".a.", ".b."), (".fn.", ".fm."), (".1.", ".2."), (".1.", ".latest."), ("evfn1.", "evfn2."), (".1.", ".")],
)
def test_a_token_with_another_name_is_nobodys(old: str, new: str) -> None:
    """The clear text of the token is authenticated as a whole."""
    mine = function_credentials(SECRET, "a", "fn", "1")
    changed = mine.session_token.replace(old, new, 1)
    assert changed != mine.session_token
    assert function_of(SECRET, mine.access_key_id, changed) is None


def test_a_token_goes_with_its_own_key_only() -> None:
    """Another function's key id, another fleet's secret, and noise of any kind are refused without an error."""
    mine, other = function_credentials(SECRET, "a", "fn"), function_credentials(SECRET, "a", "other")
    assert function_of(SECRET, other.access_key_id, mine.session_token) is None
    assert function_of(fleet_secret("u" * 32), mine.access_key_id, mine.session_token) is None
    for token in ("", ".", "....", "evfn1.a.fn.latest.\u00e9", "evfn1." + "a" * 10_000, mine.session_token + "x"):
        assert function_of(SECRET, mine.access_key_id, token) is None
    assert function_of(SECRET, "\u00e9", mine.session_token) is None
