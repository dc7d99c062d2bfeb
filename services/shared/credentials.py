"""The credentials that each function finds in its environment: derived, never stored, checked with the same secret.

The session token says in the clear which function they are of, and is authenticated; key and secret follow from the
three names, so that a door needs no table to check a request that was signed with them. They are as long-lived as the
fleet's token: what they may do is what the function's version allows, and that ends with the function (ADR 20).
"""

import base64
import hmac
from dataclasses import dataclass

from services.policy.arns import LATEST

KEY_ID_PREFIX = "EVFN"
_SECRET_LABEL = b"evenflow/function-credentials/1"
_TOKEN_PREFIX = "evfn1"
# A name of the token cannot hold it: tenants are [a-z0-9-], functions [A-Za-z0-9_-].
_SEPARATOR = "."
# "$" would be a variable in shells and files that the token is copied through; a version is digits otherwise.
_LATEST_WORD = "latest"
MAX_SESSION_TOKEN_CHARS = 512


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request of a function is signed with. The names are those of AWS_* variables, in lower case."""

    access_key_id: str
    secret_access_key: str
    session_token: str


@dataclass(frozen=True, slots=True)
class FunctionIdentity:
    """Which version of which function credentials are of."""

    tenant_id: str
    function_name: str
    version: str = LATEST


def fleet_secret(token: str) -> bytes:
    """What credentials are derived from; 32 bytes, from the fleet's token. Who has it can be every function."""
    return hmac.digest(token.encode(), _SECRET_LABEL, "sha256")


def function_credentials(secret: bytes, tenant_id: str, function_name: str, version: str = LATEST) -> Credentials:
    """The credentials of one version of a function; the same for the same names. `secret`: `fleet_secret`'s.

    The access key id has 20 characters, the secret 40 and the token at most MAX_SESSION_TOKEN_CHARS.
    """
    names = _SEPARATOR.join(
        (_TOKEN_PREFIX, tenant_id, function_name, _LATEST_WORD if version in ("", LATEST) else version)
    )
    key_id = KEY_ID_PREFIX + base64.b32encode(_derive(secret, b"id", names)[:10]).decode()
    key = base64.b64encode(_derive(secret, b"key", names)[:30]).decode()
    mark = base64.urlsafe_b64encode(_derive(secret, b"token", names)[:30]).decode()
    return Credentials(key_id, key, f"{names}{_SEPARATOR}{mark}")


def function_of(secret: bytes, access_key_id: str, session_token: str) -> tuple[FunctionIdentity, Credentials] | None:
    """Whose credentials these are and the whole of them, secret included; None: they were not derived from `secret`.

    It says nothing of a request: whether that was signed with the secret is for the caller to check. Both texts are
    compared in constant time.
    """
    parts = session_token.split(_SEPARATOR) if len(session_token) <= MAX_SESSION_TOKEN_CHARS else []
    if len(parts) != 5 or parts[0] != _TOKEN_PREFIX or not session_token.isascii() or not access_key_id.isascii():
        return None
    version = LATEST if parts[3] == _LATEST_WORD else parts[3]
    derived = function_credentials(secret, parts[1], parts[2], version)
    same_token = hmac.compare_digest(derived.session_token, session_token)
    if not (hmac.compare_digest(derived.access_key_id, access_key_id) and same_token):
        return None
    return FunctionIdentity(parts[1], parts[2], version), derived


def _derive(secret: bytes, use: bytes, names: str) -> bytes:
    return hmac.digest(secret, use + b"\0" + names.encode(), "sha256")
