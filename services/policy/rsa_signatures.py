"""RSA signatures as SNS makes them (PKCS #1 v1.5), checked with the key of an X.509 certificate. Pure.

The certificate is trusted for where it came from, which is for the caller to see to; only its key is read here.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

MAX_CERTIFICATE_BYTES = 65_536
MIN_KEY_BITS, MAX_KEY_BITS = 2_048, 8_192
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
_SEQUENCE, _INTEGER, _BIT_STRING, _OBJECT_ID, _VERSION = 0x30, 0x02, 0x03, 0x06, 0xA0
# 1.2.840.113549.1.1.1
_RSA = bytes.fromhex("2a864886f70d010101")
# DigestInfo up to the digest itself.
_PREFIXES = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA key."""

    modulus: int
    exponent: int

    def verifies(self, signature: bytes, signed: bytes, digest: str) -> bool:
        """Whether this is a signature of these bytes; `digest`: "sha1" or "sha256"."""
        size = (self.modulus.bit_length() + 7) // 8
        number = int.from_bytes(signature, "big")
        if len(signature) != size or number >= self.modulus:
            return False
        # The one block that is right is made and compared whole: nothing of the given one is parsed.
        tail = _PREFIXES[digest] + hashlib.new(digest, signed).digest()
        expected = b"\x00\x01" + b"\xff" * (size - len(tail) - 3) + b"\x00" + tail
        return hmac.compare_digest(pow(number, self.exponent, self.modulus).to_bytes(size, "big"), expected)


def key_of_certificate(pem: bytes) -> PublicKey:
    """The RSA key of a certificate. ValueError: it is none, or its key is too small or too large."""
    match = _PEM.search(pem) if len(pem) <= MAX_CERTIFICATE_BYTES else None
    if match is None:
        raise ValueError("this is no PEM certificate")
    outer = _Reader(base64.b64decode(match[1])).enter(_SEQUENCE).enter(_SEQUENCE)
    if outer.tag == _VERSION:
        outer.skip()
    # Serial number, algorithm, issuer, validity, subject.
    for _ in range(5):
        outer.skip()
    info = outer.enter(_SEQUENCE)
    if info.enter(_SEQUENCE).take(_OBJECT_ID) != _RSA:
        raise ValueError("the certificate's key is no RSA key")
    bits = info.take(_BIT_STRING)
    key = _Reader(bits[1:]).enter(_SEQUENCE)
    modulus, exponent = (int.from_bytes(key.take(_INTEGER), "big") for _ in range(2))
    if not MIN_KEY_BITS <= modulus.bit_length() <= MAX_KEY_BITS or not 3 <= exponent < 1 << 32:
        raise ValueError("the certificate's key has no size that is taken")
    return PublicKey(modulus, exponent)


class _Reader:
    """Walks DER: tag, length, value."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def tag(self) -> int:
        """Of what comes next."""
        if not self._data:
            raise ValueError("the certificate ends too early")
        return self._data[0]

    def enter(self, tag: int) -> "_Reader":
        """A reader of the value that comes next."""
        return _Reader(self.take(tag))

    def skip(self) -> None:
        """Pass over what comes next."""
        self.take(self.tag)

    def take(self, tag: int) -> bytes:
        """The value that comes next. ValueError: it has another tag, or is cut off."""
        if self.tag != tag or len(self._data) < 2:
            raise ValueError("the certificate is not built as expected")
        size, start = self._data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(self._data[2:start], "big")
        value, self._data = self._data[start : start + size], self._data[start + size :]
        if len(value) != size:
            raise ValueError("the certificate ends too early")
        return value
