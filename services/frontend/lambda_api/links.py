"""Links at which a door hands out packages for ten minutes: whoever has one may fetch, nobody can make one up."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

LINK_SECONDS = 600
LINK_PATH = "/_evenflow/package/"
# Every door of a fleet derives the same key, and none from which the token could be told.
_LABEL = b"evenflow package link 1"
_SHA256_BYTES = 32
_MAX_TOKEN_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Package:
    """What a link leads to."""

    code_sha256: bytes
    size_bytes: int


class Links:
    """Makes links and reads them."""

    def __init__(self, fleet_token: str) -> None:
        self._key = hmac.new(fleet_token.encode(), _LABEL, hashlib.sha256).digest()

    def make(self, authority: str, package: Package, wall_ms: int) -> str:
        """A URL at this door."""
        until = wall_ms // 1_000 + LINK_SECONDS
        content = package.code_sha256 + package.size_bytes.to_bytes(8, "big") + until.to_bytes(8, "big")
        token = base64.urlsafe_b64encode(content + self._seal(content)).decode().rstrip("=")
        return f"http://{authority}{LINK_PATH}{token}"

    def read(self, token: str, wall_ms: int) -> Package | None:
        """What a link's last part leads to; None: nobody made it, or its time is over."""
        if len(token) > _MAX_TOKEN_CHARACTERS:
            return None
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError):
            return None
        content, seal = raw[:-_SHA256_BYTES], raw[-_SHA256_BYTES:]
        if len(content) != _SHA256_BYTES + 16 or not hmac.compare_digest(self._seal(content), seal):
            return None
        if int.from_bytes(content[-8:], "big") * 1_000 < wall_ms:
            return None
        return Package(content[:_SHA256_BYTES], int.from_bytes(content[_SHA256_BYTES:-8], "big"))

    def _seal(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()
