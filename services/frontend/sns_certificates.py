"""RSA signatures as SNS makes them (PKCS #1 v1.5), checked with the key of an X.509 certificate.

The certificate is trusted for where it came from, which is for the caller to see to; only its key is read here.
"""

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

MIN_KEY_BITS, MAX_KEY_BITS = 2_048, 8_192
# SNS's signature versions 1 and 2.
_DIGESTS: dict[str, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA key."""

    key: rsa.RSAPublicKey

    def verifies(self, signature: bytes, signed: bytes, digest: str) -> bool:
        """Whether this is a signature of these bytes; `digest`: "sha1" or "sha256"."""
        try:
            self.key.verify(signature, signed, padding.PKCS1v15(), _DIGESTS[digest])
        except InvalidSignature:
            return False
        return True


def key_of_certificate(pem: bytes) -> PublicKey:
    """The RSA key of a certificate. ValueError: it is none, or its key is too small or too large."""
    try:
        key = x509.load_pem_x509_certificate(pem).public_key()
    except UnsupportedAlgorithm:
        raise ValueError("the certificate's key is no RSA key") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("the certificate's key is no RSA key")
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        raise ValueError("the certificate's key has no size that is taken")
    return PublicKey(key)
