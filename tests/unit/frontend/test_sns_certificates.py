"""Signatures of SNS, and the certificates that they are checked with."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.frontend.sns_certificates import key_of_certificate
from tests.kit.certificates import make_certificate

CERTIFICATE = make_certificate().pem


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_a_signature_is_right_for_its_own_text_only(digest: str) -> None:
    """A changed text, signature, digest or key is refused."""
    made = make_certificate()
    key = key_of_certificate(made.pem)
    signature = made.sign(b"text", digest)
    assert key.verifies(signature, b"text", digest)
    assert not key.verifies(signature, b"texts", digest)
    assert not key.verifies(signature, b"text", "sha256" if digest == "sha1" else "sha1")
    assert not key.verifies(bytes([signature[0] ^ 1]) + signature[1:], b"text", digest)
    assert not key.verifies(b"\x00" + signature, b"text", digest)
    assert not key_of_certificate(make_certificate().pem).verifies(signature, b"text", digest)


@given(st.binary(max_size=200), st.integers(0, 900))
def test_no_bytes_break_the_reader_of_certificates(noise: bytes, at: int) -> None:
    """A certificate that was cut, or has noise in it, is refused or read; nothing else is raised."""
    der = base64.b64decode(b"".join(CERTIFICATE.splitlines()[1:-1]))
    changed = base64.encodebytes(der[:at] + noise + der[at + len(noise) :])
    try:
        key_of_certificate(b"-----BEGIN CERTIFICATE-----\n" + changed + b"-----END CERTIFICATE-----")
    except ValueError:
        pass
