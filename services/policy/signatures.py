"""Signature Version 4: reads what a request says of its signature, and checks it. Pure; the time is handed in.

Who calls finds the secret of the claimed key between the two steps. What a door acts on is what was checked: both read the
same header values (of a repeated header the last one), every x-amz-* header must be signed, and so must the host.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256

from services.policy.canonical_requests import (
    UNSIGNED_PAYLOAD,
    canonical_headers,
    canonical_path,
    canonical_query,
    canonical_request,
    payload_hash,
    query_pairs,
)

ALGORITHM = b"AWS4-HMAC-SHA256"
MAX_SKEW_MS = 300_000
MAX_EXPIRY_SECONDS = 604_800
MAX_AUTHORIZATION_BYTES = 4_096
MAX_SIGNING_KEYS = 4_096
_TERMINATOR = "aws4_request"
_CONTENT_HASH = b"x-amz-content-sha256"
_AUTHORIZATION_PARTS = {b"Credential", b"SignedHeaders", b"Signature"}
_QUERY_PARTS = {b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-SignedHeaders", b"X-Amz-Signature"}
_WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
    "signing method. Consult the service documentation for details."
)


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


class SigningKeys:
    """Keys derived from secrets, remembered: a caller signs many requests of a day and region."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Scope], bytes] = {}

    def derive(self, secret: str, scope: Scope) -> bytes:
        """The signing key of a secret for this day, region and service."""
        key = self._known.get((secret, scope))
        if key is None:
            key = b"AWS4" + secret.encode()
            for part in (scope.date, scope.region, scope.service, _TERMINATOR):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._known) >= MAX_SIGNING_KEYS:
                self._known.clear()
            self._known[secret, scope] = key
        return key


def read_claim(headers: Mapping[bytes, bytes], raw_query: bytes) -> Claim:
    """The claim of an Authorization header or a presigned URL. SignatureMissing: there is none; SignatureRefused: bad form."""
    authorization = headers.get(b"authorization")
    if b"X-Amz-Signature=" in raw_query:
        if authorization is not None:
            raise SignatureRefused("the request is signed twice, in a header and in its URL: choose one")
        return _claim_of_query(raw_query)
    if authorization is None:
        raise SignatureMissing("Missing Authentication Token")
    return _claim_of_header(authorization, headers)


def check_signature(
    claim: Claim,
    key: bytes,
    *,
    method: bytes,
    raw_path: bytes,
    raw_query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    service: str,
    now_ms: int,
) -> None:
    """SignatureRefused unless the request was signed with this signing key, for this service, at a time that counts."""
    if claim.scope.service != service:
        raise SignatureRefused(f"Credential should be scoped to correct service: '{service}'.")
    _check_time(claim, now_ms)
    signed = set(claim.signed_headers)
    for name in headers:
        if name.startswith(b"x-amz-") and name not in signed:
            raise SignatureRefused(f"header {name.decode('latin-1')[:64]} must be signed")
    lines = canonical_headers(headers, claim.signed_headers)
    if lines is None:
        raise SignatureRefused("a header that was signed is not in the request")
    request = canonical_request(
        method,
        canonical_path(raw_path, encodes_twice=service != "s3"),
        canonical_query(query_pairs(raw_query), is_presigned=claim.expires_seconds is not None),
        lines,
        claim.signed_headers,
        _payload_hash(headers, body),
    )
    scope = claim.scope
    text = (
        f"{ALGORITHM.decode()}\n{claim.timestamp}\n{scope.date}/{scope.region}/{scope.service}/{_TERMINATOR}\n"
        f"{sha256(request).hexdigest()}"
    )
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex().encode(), claim.signature):
        raise SignatureRefused(_WRONG)


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
    if not parts.keys() >= _QUERY_PARTS:
        raise SignatureRefused(
            "a presigned URL must have X-Amz-Credential, X-Amz-Date, X-Amz-Expires, X-Amz-SignedHeaders and X-Amz-Signature"
        )
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
    names = credential.decode("latin-1").split("/")
    if len(names) != 5 or not all(names) or names[4] != _TERMINATOR:
        raise SignatureRefused("Credential must be KEY/YYYYMMDD/REGION/SERVICE/aws4_request")
    signed = tuple(signed_headers.split(b";"))
    if b"host" not in signed:
        raise SignatureRefused("the host header must be signed")
    if list(signed) != sorted(set(signed)) or signed_headers.lower() != signed_headers:
        raise SignatureRefused("SignedHeaders must be in lower case and sorted, each once")
    if names[1] != timestamp[:8]:
        raise SignatureRefused("Date in Credential scope does not match YYYYMMDD of the request's date")
    scope = Scope(names[1], names[2], names[3])
    return Claim(names[0], scope, timestamp, signed, signature, token.decode("latin-1"), expires_seconds)


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


def _check_time(claim: Claim, now_ms: int) -> None:
    text = claim.timestamp
    try:
        if len(text) != 16 or not text.isascii():
            raise ValueError
        at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SignatureRefused("the date of the signature must be YYYYMMDDTHHMMSSZ") from None
    at_ms = int(at.timestamp()) * 1_000
    now = datetime.fromtimestamp(now_ms // 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    if at_ms > now_ms + MAX_SKEW_MS:
        raise SignatureRefused(f"Signature not yet current: {text} is more than 5 minutes later than {now}")
    valid_ms = MAX_SKEW_MS if claim.expires_seconds is None else claim.expires_seconds * 1_000
    if now_ms > at_ms + valid_ms:
        raise SignatureRefused(f"Signature expired: {text} and {valid_ms // 1_000} seconds are earlier than {now}")


def _payload_hash(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """The hash that was signed. The header is signed itself, and believed only where it is the body's, or says unsigned."""
    said = headers.get(_CONTENT_HASH)
    if said == UNSIGNED_PAYLOAD:
        return said
    real = payload_hash(body)
    if said is None or hmac.compare_digest(said, real):
        return real
    if said.startswith(b"STREAMING-"):
        raise SignatureRefused("payloads that are signed in chunks (STREAMING-...) are not offered: sign the whole one")
    raise SignatureRefused("x-amz-content-sha256 is not the hash of the payload that came")
