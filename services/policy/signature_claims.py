"""What a request says of its Signature Version 4, in its Authorization header or in a presigned URL. Pure.

Nothing that is read here is proven (see `signatures`); what cannot be proven because of its form is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

from services.policy.canonical_requests import query_pairs

ALGORITHM = b"AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
MAX_EXPIRY_SECONDS = 604_800
MAX_AUTHORIZATION_BYTES = 4_096
# Callers say the same in every request of a day; at most a URL's length each.
MAX_REMEMBERED = 512
_AUTHORIZATION_PARTS = {b"Credential", b"SignedHeaders", b"Signature"}
_QUERY_PARTS = (b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Signature")


class SignatureRefused(ValueError):
    """The request is not signed as it must be; the message is for the caller and holds no secret."""


class SignatureMissing(SignatureRefused):
    """The request carries no signature at all."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for."""

    date: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its signature; nothing of it is proven."""

    access_key_id: str
    scope: Scope
    timestamp: str
    signed_headers: tuple[bytes, ...]
    signature: bytes
    session_token: str
    # How long a presigned URL is good for; None: the request is signed in its header.
    expires_seconds: int | None


def read_claim(headers: Mapping[bytes, bytes], raw_query: bytes) -> Claim:
    """The claim of an Authorization header or a presigned URL.

    SignatureMissing: there is none. SignatureRefused: its form is bad, or there are two.
    """
    authorization = headers.get(b"authorization")
    if b"X-Amz-Signature=" in raw_query:
        if authorization is not None:
            raise SignatureRefused("the request is signed twice, in a header and in its URL: choose one")
        return _claim_of_query(raw_query)
    if authorization is None:
        raise SignatureMissing("Missing Authentication Token")
    return _claim_of_header(authorization, headers)


def _claim_of_header(authorization: bytes, headers: Mapping[bytes, bytes]) -> Claim:
    if len(authorization) > MAX_AUTHORIZATION_BYTES:
        raise SignatureRefused(f"the Authorization header is over {MAX_AUTHORIZATION_BYTES} bytes")
    algorithm, _, rest = authorization.partition(b" ")
    if algorithm != ALGORITHM:
        raise SignatureRefused(
            f"Authorization must begin with {ALGORITHM.decode()}: no other way of signing is offered"
        )
    parts: dict[bytes, bytes] = {}
    for part in rest.split(b","):
        name, _, value = part.strip().partition(b"=")
        if name in parts or name not in _AUTHORIZATION_PARTS:
            raise SignatureRefused("Authorization header must have Credential, SignedHeaders and Signature, each once")
        parts[name] = value
    if len(parts) != len(_AUTHORIZATION_PARTS):
        raise SignatureRefused("Authorization header must have Credential, SignedHeaders and Signature, each once")
    token = headers.get(b"x-amz-security-token", b"")
    return _claim(
        parts[b"Credential"], _timestamp_of(headers), parts[b"SignedHeaders"], parts[b"Signature"], token, None
    )


def _claim_of_query(raw_query: bytes) -> Claim:
    parts: dict[bytes, bytes] = {}
    for name, value in query_pairs(raw_query):
        if name in parts:
            raise SignatureRefused(f"{name.decode('latin-1')[:64]} is in the URL twice")
        if name.startswith(b"X-Amz-"):
            parts[name] = value
    if parts.get(b"X-Amz-Algorithm") != ALGORITHM:
        raise SignatureRefused(f"X-Amz-Algorithm must be {ALGORITHM.decode()}: no other way of signing is offered")
    for name in _QUERY_PARTS:
        if name not in parts:
            raise SignatureRefused(f"a presigned URL must have {name.decode()}")
    expires = parts[b"X-Amz-Expires"]
    if not (expires.isdigit() and len(expires) <= 6 and 1 <= int(expires) <= MAX_EXPIRY_SECONDS):
        raise SignatureRefused(f"X-Amz-Expires must be 1 to {MAX_EXPIRY_SECONDS} seconds")
    return _claim(
        parts[b"X-Amz-Credential"],
        parts[b"X-Amz-Date"].decode("latin-1"),
        parts[b"X-Amz-SignedHeaders"],
        parts[b"X-Amz-Signature"],
        parts.get(b"X-Amz-Security-Token", b""),
        int(expires),
    )


def _claim(
    credential: bytes,
    timestamp: str,
    signed_headers: bytes,
    signature: bytes,
    token: bytes,
    expires_seconds: int | None,
) -> Claim:
    access_key_id, scope = _scope(credential)
    if scope.date != timestamp[:8]:
        raise SignatureRefused("Date in Credential scope does not match YYYYMMDD of the request's date")
    signed = _signed(signed_headers)
    return Claim(access_key_id, scope, timestamp, signed, signature, token.decode("latin-1"), expires_seconds)


@lru_cache(MAX_REMEMBERED)
def _scope(credential: bytes) -> tuple[str, Scope]:
    names = credential.decode("latin-1").split("/")
    if len(names) != 5 or not all(names) or names[4] != TERMINATOR:
        raise SignatureRefused("Credential must be KEY/YYYYMMDD/REGION/SERVICE/aws4_request")
    return names[0], Scope(names[1], names[2], names[3])


@lru_cache(MAX_REMEMBERED)
def _signed(text: bytes) -> tuple[bytes, ...]:
    names = tuple(text.split(b";"))
    if b"host" not in names:
        raise SignatureRefused("the host header must be signed")
    if list(names) != sorted(set(names)) or text.lower() != text:
        raise SignatureRefused("SignedHeaders must be in lower case and sorted, each once")
    return names


def _timestamp_of(headers: Mapping[bytes, bytes]) -> str:
    """X-Amz-Date as it is; else the Date header in that form, as signers that find one leave X-Amz-Date out."""
    given = headers.get(b"x-amz-date")
    if given is not None:
        return given.decode("latin-1").strip()
    try:
        at = parsedate_to_datetime(headers[b"date"].decode("latin-1"))
    except (KeyError, ValueError, IndexError):
        raise SignatureRefused(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header"
        ) from None
    return (at if at.tzinfo is None else at.astimezone(UTC)).strftime("%Y%m%dT%H%M%SZ")
