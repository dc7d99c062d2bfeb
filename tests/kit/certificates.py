"""Self-signed certificates for tests, and signatures by their keys."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_DIGESTS: dict[str, Any] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}  # as SNS signs


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate and its key."""

    pem: bytes
    key: rsa.RSAPrivateKey

    def sign(self, text: bytes, digest: str) -> bytes:
        """PKCS #1 v1.5; digest: "sha1" or "sha256"."""
        return self.key.sign(text, padding.PKCS1v15(), _DIGESTS[digest])


def make_certificate() -> Certificate:
    """With a fresh key of 2,048 bits."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return Certificate(made.public_bytes(serialization.Encoding.PEM), key)
