"""Who a certificate speaks for, which roles call what, and which certificates count no more."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from evenflow.control.v1 import control_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.poller.v1 import poller_pb2
from evenflow.queue.v1 import queue_pb2
from evenflow.runtime.v1 import runtime_pb2

from cli.certificates.authority import Authority
from services.shared import revocation
from services.shared.call_rules import RULES, AllBut, may_call
from services.shared.identity import OPERATOR, ROLES, identity_of, server_name, uri_of
from services.shared.revocation import Revoked

CONTRACTS: tuple[ModuleType, ...] = (control_pb2, frontend_pb2, poller_pb2, queue_pb2, runtime_pb2)
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def methods() -> dict[str, set[str]]:
    """Every method of every inner contract, by service."""
    found: dict[str, set[str]] = {}
    for contract in CONTRACTS:
        for service in contract.DESCRIPTOR.services_by_name.values():
            found[service.full_name] = {method.name for method in service.methods}
    return found


def test_every_contract_has_rules_and_every_rule_names_what_is_there() -> None:
    """A new service without rules, or a renamed method, shows here."""
    contracts = methods()
    assert set(RULES) == set(contracts)
    for service, by_role in RULES.items():
        assert set(by_role) <= set(ROLES)
        for role, allowed in by_role.items():
            named = allowed.methods if isinstance(allowed, AllBut) else allowed
            assert named <= contracts[service], f"{service}, {role}: {named - contracts[service]}"
        for method in contracts[service]:
            assert any(may_call(role, f"/{service}/{method}") for role in ROLES), f"nobody may call {method}"


def test_what_must_not_be_open_is_shut() -> None:
    """Keys and tenants are the operator's; hosts and pollers change nothing; events are leased by pollers alone."""
    control, queue = "/evenflow.control.v1.ControlService/", "/evenflow.queue.v1.QueueService/"
    for method in ("CreateAccessKey", "PutTenant", "MoveShard"):
        assert [role for role in ROLES if may_call(role, control + method)] == [OPERATOR]
    for role in ("runtime", "poller", "queue"):
        assert not may_call(role, control + "PutFunction") and may_call(role, control + "Watch")
    assert [role for role in ROLES if may_call(role, queue + "Lease")] == ["poller"]
    assert [role for role in ROLES if may_call(role, queue + "FetchShard")] == ["queue"]
    assert not any(may_call(role, "/evenflow.queue.v1.QueueService/Unheard") for role in ROLES if role != OPERATOR)
    assert not any(may_call(role, "/some.other.Service/Call") for role in ROLES)
    assert all(may_call(role, "/grpc.health.v1.Health/Check") for role in ROLES)
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert [role for role in ROLES if may_call(role, reflection)] == [OPERATOR]


def test_a_certificate_says_its_role_and_node() -> None:
    """For one node, or for any of its role; and how long."""
    authority, _ = Authority.make(NOW)
    one = identity_of(authority.issue("queue", "queue-0", NOW, 5).certificate)
    assert (one.role, one.node_id, str(one)) == ("queue", "queue-0", "queue/queue-0")
    assert one.not_after == (NOW + timedelta(days=5)).timestamp() and one.not_before < NOW.timestamp()
    assert one.is_node("queue", "queue-0")
    assert not one.is_node("queue", "queue-1") and not one.is_node("poller", "queue-0")
    every = identity_of(authority.issue("runtime", "", NOW, 5).certificate)
    assert every.is_node("runtime", "3f2a") and not every.is_node("queue", "3f2a") and str(every) == "runtime"
    assert server_name("queue", "queue-0") == "queue-0.queue.evenflow"


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["spiffe://elsewhere/queue"],
        ["spiffe://evenflow/king"],
        ["spiffe://evenflow/queue/"],
        ["spiffe://evenflow/queue/a/b"],
        ["spiffe://evenflow/queue/../control"],
        ["spiffe://evenflow/queue", "spiffe://evenflow/operator"],
    ],
)
def test_a_certificate_that_names_no_single_role_is_nobody_s(uris: list[str]) -> None:
    """Not guessed, not the first of several."""
    with pytest.raises(ValueError):
        identity_of(with_uris(uris))


def with_uris(uris: list[str]) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder: Any = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    pem: bytes = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return pem


@pytest.mark.parametrize(("role", "node_id"), [("king", ""), ("", ""), ("queue", "Queue-0"), ("queue", "a" * 64)])
def test_impossible_names_are_refused(role: str, node_id: str) -> None:
    """Before anything is signed."""
    with pytest.raises(ValueError):
        uri_of(role, node_id)


def test_the_list_of_revoked_ones_is_followed_and_survives_damage(tmp_path: Path) -> None:
    """What changes counts at once; a file that is damaged or gone opens nothing."""
    path = tmp_path / "revoked"
    path.write_text(revocation.render([(0xAB, "queue-0"), (0x10, "")]))
    revoked = Revoked(str(path))
    assert revoked.serials == {0xAB, 0x10} and not revoked.reload()
    path.write_text("ab\n# a word\ncd # poller, 2026\n\n")
    assert revoked.reload() and revoked.serials == {0xAB, 0xCD}
    for damage in ("no number\n", "\xff"):
        path.write_text(damage, encoding="latin-1")
        assert not revoked.reload() and revoked.serials == {0xAB, 0xCD}
    os.unlink(path)
    assert not revoked.reload() and revoked.serials == {0xAB, 0xCD}
    path.write_text("")
    assert revoked.reload() and not revoked.serials
    with pytest.raises(ValueError, match=r"tls\.revoked_file .*nowhere"):
        Revoked(str(tmp_path / "nowhere"))
    assert not Revoked("").reload()
