"""Signature Version 4: whether a claim is true. Pure; the time is handed in.

Who calls reads the claim (`signature_claims`) and finds the secret of its key first. Every x-amz-* header must be
signed, and so must the host: a door acts on nothing of theirs that was not checked.
"""

import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
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
from services.policy.signature_claims import ALGORITHM, TERMINATOR, Claim, Scope, SignatureRefused

MAX_SKEW_MS = 300_000
MAX_SIGNING_KEYS = 4_096
MAX_TIMES = 1_024
_TIMESTAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_CONTENT_HASH = b"x-amz-content-sha256"
_WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class SigningKeys:
    """Keys derived from secrets, remembered: a caller signs many requests of a day and region."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Scope], bytes] = {}

    def derive(self, secret: str, scope: Scope) -> bytes:
        """The signing key of a secret for this day, region and service."""
        key = self._known.get((secret, scope))
        if key is None:
            key = b"AWS4" + secret.encode()
            for part in (scope.date, scope.region, scope.service, TERMINATOR):
                key = hmac.digest(key, part.encode(), "sha256")
            if len(self._known) >= MAX_SIGNING_KEYS:
                self._known.clear()
            self._known[secret, scope] = key
        return key


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
        f"{ALGORITHM.decode()}\n{claim.timestamp}\n{scope.date}/{scope.region}/{scope.service}/{TERMINATOR}\n"
        f"{sha256(request).hexdigest()}"
    )
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex().encode(), claim.signature):
        raise SignatureRefused(_WRONG)


def _check_time(claim: Claim, now_ms: int) -> None:
    at_ms = _time_ms(claim.timestamp)
    valid_ms = MAX_SKEW_MS if claim.expires_seconds is None else claim.expires_seconds * 1_000
    if at_ms - MAX_SKEW_MS <= now_ms <= at_ms + valid_ms:
        return
    now = datetime.fromtimestamp(now_ms // 1_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    if now_ms < at_ms:
        raise SignatureRefused(f"Signature not yet current: {claim.timestamp} is more than 5 minutes later than {now}")
    raise SignatureRefused(
        f"Signature expired: {claim.timestamp} and {valid_ms // 1_000} seconds are earlier than {now}"
    )


@lru_cache(MAX_TIMES)
def _time_ms(timestamp: str) -> int:
    """Milliseconds since the Unix epoch. Callers sign many requests in one second."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRefused("the date of the signature must be YYYYMMDDTHHMMSSZ")
    try:
        return int(datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()) * 1_000
    except ValueError:
        raise SignatureRefused(f"{timestamp} is no date") from None


def _payload_hash(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """The hash that was signed. The header, signed itself, is believed where it is the body's or says unsigned."""
    said = headers.get(_CONTENT_HASH)
    if said == UNSIGNED_PAYLOAD:
        return said
    real = payload_hash(body)
    if said is None or hmac.compare_digest(said, real):
        return real
    if said.startswith(b"STREAMING-"):
        raise SignatureRefused("payloads that are signed in chunks (STREAMING-...) are not offered: sign the whole one")
    raise SignatureRefused("x-amz-content-sha256 is not the hash of the payload that came")
