"""Who a certificate speaks for: a role, and the node of it that it is bound to.

The role stands in a URI (`spiffe://evenflow/queue/queue-0`; without the last part: any node of that role), and again
in a DNS name, which is what a caller verifies of a server: `queue-0.queue.evenflow`, or `*.runtime.evenflow`.
"""

import re
from dataclasses import dataclass

TRUST_DOMAIN = "evenflow"
CONTROL, FRONTEND, QUEUE, POLLER, RUNTIME = "control", "frontend", "queue", "poller", "runtime"
# Whoever looks after the fleet: the `evenflow` command.
OPERATOR = "operator"
ROLES = (CONTROL, FRONTEND, QUEUE, POLLER, RUNTIME, OPERATOR)
# Control is one process, by this name.
CONTROL_NODE = "control"
_SCHEME = f"spiffe://{TRUST_DOMAIN}/"
_NODE_ID = re.compile(r"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says of its holder. `node_id` empty: any node of the role; times in seconds since 1970."""

    role: str
    node_id: str
    serial: int
    not_before: float
    not_after: float

    def __str__(self) -> str:
        return f"{self.role}/{self.node_id}" if self.node_id else self.role

    def is_node(self, role: str, node_id: str) -> bool:
        """Whether it may stand for this node."""
        return self.role == role and self.node_id in ("", node_id)


def server_name(role: str, node_id: str) -> str:
    """The DNS name that a node's certificate must be valid for."""
    return f"{node_id}.{role}.{TRUST_DOMAIN}"


def uri_of(role: str, node_id: str = "") -> str:
    """The URI that stands in a certificate. ValueError: no such role, or an impossible node id."""
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role: {', '.join(ROLES)}")
    if node_id and not _NODE_ID.fullmatch(node_id):
        raise ValueError(f"node id {node_id[:80]!r} must be 1 to 63 characters of a-z 0-9 -")
    return f"{_SCHEME}{role}/{node_id}" if node_id else f"{_SCHEME}{role}"


def identity_of(pem: bytes) -> Identity:
    """The identity in a certificate. ValueError: it is none, or it names no role of a fleet, or more than one."""
    # Only fleets over TCP need it, and every process of the others would load it.
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate has no subject alternative names") from None
    uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(_SCHEME)]
    if len(uris) != 1:
        raise ValueError(f"the certificate has {len(uris)} names {_SCHEME}ROLE, not one")
    role, slash, node_id = uris[0].removeprefix(_SCHEME).partition("/")
    if uri_of(role, node_id) != uris[0] or (slash and not node_id):
        raise ValueError(f"{uris[0]!r} names no node")
    return Identity(
        role,
        node_id,
        certificate.serial_number,
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )
