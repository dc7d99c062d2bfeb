"""A fleet's certificate authority: its key, and the certificates that it signs. No files."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.shared.identity import server_name, uri_of

AUTHORITY_DAYS = 3_650
# Clocks of machines differ.
BACKDATE = timedelta(hours=1)
_USES = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates for roles and nodes of one fleet."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """PEM texts. ValueError: they are none, or do not belong together."""
        self.pem = certificate
        self._certificate = x509.load_pem_x509_certificate(certificate)
        self._key: Any = serialization.load_pem_private_key(key, None)
        if self._key.public_key() != self._certificate.public_key():
            raise ValueError("the authority's key is not the key of its certificate")

    @classmethod
    def make(cls, now: datetime, days: int = AUTHORITY_DAYS) -> tuple["Authority", Issued]:
        """A new one, and what is to be kept of it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("Evenflow fleet authority")
        certificate = (
            _begin(name, name, key.public_key(), now, days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**{**_USES, "key_cert_sign": True, "crl_sign": True}), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        kept = Issued(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))
        return cls(kept.certificate, kept.key), kept

    @property
    def not_after(self) -> datetime:
        """When it ends, and with it everything that it signed."""
        return self._certificate.not_valid_after_utc

    def issue(self, role: str, node_id: str, now: datetime, days: int) -> Issued:
        """A certificate for one node, or (`node_id` empty) for any node of a role, with a fresh key (P-256).

        ValueError: no such role, an impossible node id.
        """
        uri = uri_of(role, node_id)
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.UniformResourceIdentifier(uri), x509.DNSName(server_name(role, node_id or "*"))]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            _begin(_named(node_id or role), self._certificate.subject, key.public_key(), now, days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**{**_USES, "digital_signature": True}), critical=True)
            .add_extension(uses, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))

    def has_signed(self, pem: bytes) -> bool:
        """Whether a certificate is one of this authority's."""
        try:
            x509.load_pem_x509_certificate(pem).verify_directly_issued_by(self._certificate)
        except Exception:
            # Wrong issuer, wrong signature, another kind of key: none is ours.
            return False
        return True


def _begin(subject: x509.Name, issuer: x509.Name, key: Any, now: datetime, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made
