"""Mutual TLS between machines: a process's own certificate, and gRPC's credentials made of it."""

import logging
import os
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc

from services.shared.identity import Identity, identity_of, server_name
from services.shared.revocation import Revoked
from services.shared.settings import NodeSettings

MAX_PEM_BYTES = 1 << 20
# A certificate with less time left is worth a word in the log.
WARN_DAYS = 7
_DAY_SECONDS = 86_400
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a process's certificate, its key and the fleet's certificate authority are."""

    ca: str
    certificate: str
    key: str
    revoked: str = ""

    def read(self) -> "Material":
        """What the files hold now. ValueError: one is missing, unsafe or does not fit the others."""
        key = _read("tls.key_file", self.key)
        if os.stat(self.key).st_mode & 0o077:
            raise ValueError(f"tls.key_file {self.key}: must not be readable by group or others (chmod 600)")
        material = Material(_read("tls.ca_file", self.ca), _read("tls.cert_file", self.certificate), key)
        material.check()
        return material


@dataclass(frozen=True, slots=True)
class Material:
    """PEM texts: authority, certificate chain, key."""

    ca: bytes
    certificate: bytes
    key: bytes

    def check(self) -> None:
        """Pass when key and certificate belong together. ValueError."""
        # Not at the top: see services.shared.identity.
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        try:
            mine = x509.load_pem_x509_certificate(self.certificate).public_key()
            theirs = serialization.load_pem_private_key(self.key, None).public_key()
            x509.load_pem_x509_certificates(self.ca)
        except (ValueError, TypeError) as e:
            raise ValueError(f"tls.*: a file is not what it must be: {e}") from None
        form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        if mine.public_bytes(*form) != theirs.public_bytes(*form):
            raise ValueError("tls.key_file is not the key of tls.cert_file")


class Tls:
    """One process's side of mutual TLS; server credentials follow the files, so that a renewal needs no restart there.

    Calls that a process makes are made with the certificate that it had at start: gRPC knows no other way. Whoever
    renews certificates restarts the services, one by one, before the old ones end.
    """

    def __init__(self, files: TlsFiles) -> None:
        """ValueError: the files are not there, unsafe, or no certificate of a fleet; it has ended."""
        self._files = files
        self._material = files.read()
        self.identity: Identity = identity_of(self._material.certificate)
        left = self.identity.not_after - time.time()
        if left <= 0:
            raise ValueError(f"tls.cert_file {files.certificate} has ended: `evenflow certs` makes a new one")
        if left < WARN_DAYS * _DAY_SECONDS:
            log.warning("the certificate %s ends in %.1f days", files.certificate, left / _DAY_SECONDS)
        self.revoked = Revoked(files.revoked)
        self._served: Material | None = None
        self._client = grpc.ssl_channel_credentials(
            root_certificates=self._material.ca,
            private_key=self._material.key,
            certificate_chain=self._material.certificate,
        )

    @classmethod
    def of(cls, settings: NodeSettings) -> "Tls | None":
        """From a process's settings; None: none of them is set. ValueError: only some are."""
        given = (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file)
        if not any(given):
            return None
        if not all(given):
            raise ValueError("tls.ca_file, tls.cert_file and tls.key_file are set together or not at all")
        return cls(TlsFiles(*given, settings.tls_revoked_file))

    def channel(self, target: str, name: str, options: list[tuple[str, Any]]) -> grpc.aio.Channel:
        """A channel to whoever proves to be `name` (see `server_name`)."""
        return grpc.aio.secure_channel(target, self._client, options=[*options, *_named(name)])

    def blocking_channel(self, target: str, name: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        """The same for code without a loop."""
        return grpc.secure_channel(target, self._client, options=[*options, *_named(name)])

    def server_credentials(self) -> grpc.ServerCredentials:
        """Asks every caller for a certificate of the fleet's authority; takes renewed files with the next handshake."""
        self._served = self._material
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._material), self._look_again, require_client_authentication=True
        )

    def _look_again(self) -> Any:
        # Called by gRPC's threads, once for each handshake.
        try:
            now = self._files.read()
        except ValueError as e:
            log.error("%s; what was read before is used", e)
            return None
        if now == self._served:
            return None
        self._served = now
        return _configuration(now)


def check_listen(address: str, tls: Tls | None) -> None:
    """Pass when inner calls may come in there. ValueError, saying what to do."""
    if address.startswith("unix:"):
        if tls is not None:
            raise ValueError("tls.* is for TCP: set listen=HOST:PORT, too, or none of them")
        return
    if tls is None and not _is_local(address):
        raise ValueError(
            f"listen={address} is reachable from other machines: set tls.ca_file, tls.cert_file and tls.key_file "
            "(`evenflow certs` makes them), or listen on 127.0.0.1"
        )


def check_node(tls: Tls | None, role: str, node_id: str) -> None:
    """Pass when a process that runs as this node has a certificate for it. ValueError."""
    if tls is not None and not tls.identity.is_node(role, node_id):
        raise ValueError(f"tls.cert_file is a certificate of {tls.identity}: {node_id} of role {role} cannot use it")


def own_name(tls: Tls, node_id: str) -> str:
    """What this process's own certificate is valid for."""
    return server_name(tls.identity.role, tls.identity.node_id or node_id)


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _named(name: str) -> list[tuple[str, Any]]:
    # Addresses come and go; who is meant is said by control, and proven by the certificate.
    return [("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)


def _read(name: str, path: str) -> bytes:
    try:
        if os.stat(path).st_size > MAX_PEM_BYTES:
            raise ValueError(f"{name} {path} has more than {MAX_PEM_BYTES} bytes")
        return Path(path).read_bytes()
    except OSError as e:
        raise ValueError(f"{name} {path}: {e.strerror}") from None
