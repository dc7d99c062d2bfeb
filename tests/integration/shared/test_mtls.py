"""Attack 21: certificates that have ended, were revoked, are of the wrong role or of another authority, and none.

Real services on the loopback. Every attacker has the fleet's token: the certificate alone keeps it out.
"""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc
from evenflow.poller.v1 import poller_pb2, poller_pb2_grpc
from evenflow.queue.v1 import queue_pb2, queue_pb2_grpc
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from cli.certificates.authority import Authority
from cli.certificates.folder import CertificateFolder, Holder
from services.shared import ids
from services.shared.channels import Peer
from services.shared.errors import EvenflowError, Reason
from services.shared.identity import identity_of, server_name
from services.shared.tls import Tls
from tests.kit.fleet import run_cli
from tests.kit.tls_fleet import HOLDERS, TlsFleet, files_of
from tests.kit.waiting import wait_until

CALL_SECONDS = 5.0
NODES = tuple(HOLDERS)
# A call that each service answers to an operator.
CALLS: dict[str, tuple[Any, str, Any]] = {
    "control": (control_pb2_grpc.ControlServiceStub, "ListMembers", control_pb2.ListMembersRequest()),
    "queue": (queue_pb2_grpc.QueueServiceStub, "DescribeShards", queue_pb2.DescribeShardsRequest()),
    "runtime": (runtime_pb2_grpc.RuntimeServiceStub, "DescribeHost", runtime_pb2.DescribeHostRequest()),
    "poller": (poller_pb2_grpc.PollerServiceStub, "DescribePoller", poller_pb2.DescribePollerRequest()),
    "frontend": (
        frontend_pb2_grpc.FrontendServiceStub,
        "GetEvent",
        frontend_pb2.GetEventRequest(request_id=ids.mint(1_700_000_000_000, 0), tenant_id="default"),
    ),
}
# The calls above that some role other than the operator's may make.
ALSO_ALLOWED = {("control", role) for role in ("frontend", "queue", "poller", "runtime")}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsFleet]:
    """All five services."""
    made = TlsFleet(tmp_path_factory.mktemp("mtls"), {"EVENFLOW_FLEET_SHARDS": "2", "EVENFLOW_RUNTIME_PRELOAD": ""})
    try:
        made.start()
        yield made
    finally:
        made.stop()


def role_of(node_id: str) -> str:
    return node_id.partition("-")[0]


async def outcome(fleet: TlsFleet, node_id: str, tls: Tls | None) -> "EvenflowError | None":
    """How a node answers a caller with this certificate; None: it lets it in."""
    role = role_of(node_id)
    stub, method, request = CALLS[role]
    peer = Peer.dial(fleet.address(node_id), fleet.token, tls, server_name(role, node_id))
    try:
        await getattr(stub(peer.channel), method)(request, metadata=peer.metadata, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as e:
        error = EvenflowError.from_rpc_error(e)
        # An id that no event has: the door looked for it.
        return None if error.reason == Reason.ERROR_REASON_EVENT_NOT_FOUND else error
    finally:
        await peer.close()
    return None


def certificate(fleet: TlsFleet, folder: Path, role: str, node_id: str = "", days_ago: float = 0, days: int = 1) -> Tls:
    """A certificate of the fleet's own authority that `evenflow certs` would not make, past its checks at start."""
    home = fleet.certs / "ca"
    authority = Authority((home / "ca.crt").read_bytes(), (home / "ca.key").read_bytes())
    issued = authority.issue(role, node_id, datetime.now(UTC) - timedelta(days=days_ago), days)
    return forged(folder, authority.pem, issued.certificate, issued.key)


def forged(folder: Path, ca: bytes, pem: bytes, key: bytes) -> Tls:
    for name, data in (("ca.crt", ca), ("node.crt", pem), ("node.key", key), ("revoked", b"")):
        path = folder / name
        path.write_bytes(data)
        path.chmod(0o600)
    ends, files = identity_of(pem).not_after, files_of(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.shared.tls.time.time", lambda: ends - 1)
        return Tls(files)


def test_an_operator_deploys_and_events_run(fleet: TlsFleet, tmp_path: Path) -> None:
    """The whole way over TLS: deploy, door, queue, poller, host; members say TCP addresses."""
    (tmp_path / "app.py").write_text(
        textwrap.dedent("""
            def handler(event, context):
                return event["n"] + 1
        """)
    )
    (tmp_path / "evenflow.toml").write_text('[[functions]]\nname = "inc"\nhandler = "app.handler"\n')
    fleet.cli("deploy", str(tmp_path))
    assert fleet.cli("invoke", "inc", "--payload", '{"n": 41}').split() == ["42"]
    request_id = fleet.cli("invoke", "inc", "--async", "--payload", '{"n": 1}').split()[-1]
    wait_until(
        lambda: json.loads(fleet.cli("event", request_id, "--json")).get("state", "").lower() in ("acked", "succeeded"),
        20.0,
        "the event to have run",
    )


@pytest.mark.parametrize("node_id", NODES)
async def test_who_has_no_certificate_of_the_fleet_is_not_heard(fleet: TlsFleet, node_id: str, tmp_path: Path) -> None:
    """None at all, plain text, another authority's, one that has ended: no call gets through, at any service."""
    other, _ = Authority.make(datetime.now(UTC))
    stranger = other.issue("operator", "", datetime.now(UTC), 1)
    ours = (fleet.certs / "ca" / "ca.crt").read_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "ended").mkdir()
    bad = {
        "plain text": None,
        "another authority's": forged(tmp_path / "other", ours, stranger.certificate, stranger.key),
        "ended": certificate(fleet, tmp_path / "ended", "operator", days_ago=3),
    }
    for what, tls in bad.items():
        refused = await outcome(fleet, node_id, tls)
        assert refused is not None and refused.reason == Reason.ERROR_REASON_UNAVAILABLE, what
    nameless = grpc.aio.secure_channel(
        fleet.address(node_id),
        grpc.ssl_channel_credentials(ours),
        options=[("grpc.ssl_target_name_override", server_name(role_of(node_id), node_id))],
    )
    async with nameless:
        stub, method, request = CALLS[role_of(node_id)]
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await getattr(stub(nameless), method)(request, timeout=CALL_SECONDS)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await outcome(fleet, node_id, fleet.tls_of("operator")) is None


@pytest.mark.parametrize("node_id", NODES)
async def test_a_role_calls_what_it_may_and_no_more(fleet: TlsFleet, node_id: str) -> None:
    """Each role's own certificate at each service: let in, or refused with ACCESS_DENIED and the role's name."""
    for holder in (*HOLDERS.values(), "operator"):
        role = holder.partition("/")[0]
        refused = await outcome(fleet, node_id, fleet.tls_of(holder))
        if role == "operator" or (role_of(node_id), role) in ALSO_ALLOWED:
            assert refused is None, f"{role}: {refused}"
        else:
            assert refused is not None and refused.reason == Reason.ERROR_REASON_ACCESS_DENIED, f"{role}: {refused}"
            assert f"role {role} may not call" in refused.message


async def test_a_revoked_certificate_ends_at_once(fleet: TlsFleet) -> None:
    """Its open stream is ended, its new calls are refused, and those of others with the same role go on."""
    fleet.issue("poller/thief", "poller/honest")
    thief, honest = fleet.tls_of("poller/thief"), fleet.tls_of("poller/honest")
    peers = [
        Peer.dial(fleet.address("control"), fleet.token, tls, server_name("control", "control"))
        for tls in (thief, honest)
    ]
    watches = [await watching(peer) for peer in peers]
    folder = CertificateFolder(fleet.certs)
    assert folder.revoke(Holder("poller", "thief")) == [thief.identity.serial]
    folder.spread()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(10):
            while await watches[0].read() is not grpc.aio.EOF:
                continue
    assert EvenflowError.from_rpc_error(ended.value).reason == Reason.ERROR_REASON_UNAUTHENTICATED
    assert "poller/thief is revoked" in str(ended.value.details())
    refused = await outcome(fleet, "control", thief)
    assert refused is not None and refused.reason == Reason.ERROR_REASON_UNAUTHENTICATED
    assert not watches[1].done() and await outcome(fleet, "control", honest) is None
    for peer in peers:
        await peer.close()


async def watching(peer: Peer) -> Any:
    """A Watch stream that got its first message."""
    call: Any = control_pb2_grpc.ControlServiceStub(peer.channel).Watch(
        control_pb2.WatchRequest(node_id="anyone"), metadata=peer.metadata
    )
    await call.read()
    return call


async def test_a_node_joins_as_itself_alone(fleet: TlsFleet) -> None:
    """A host's certificate cannot take a queue node's place, nor a queue node's another one's."""
    role = resources_pb2
    attempts = [
        ("runtime", "queue-0", role.NODE_ROLE_QUEUE),
        ("queue/queue-0", "queue-1", role.NODE_ROLE_QUEUE),
        ("poller", "poller-9", role.NODE_ROLE_RUNTIME),
    ]
    for holder, node_id, as_role in attempts:
        peer = Peer.dial(fleet.address("control"), fleet.token, fleet.tls_of(holder), server_name("control", "control"))

        async def hello(node_id: str = node_id, as_role: Any = as_role) -> AsyncIterator[control_pb2.JoinRequest]:
            said = control_pb2.JoinHello(node_id=node_id, role=as_role, incarnation="i" * 32, address="127.0.0.1:1")
            yield control_pb2.JoinRequest(hello=said)

        call: Any = control_pb2_grpc.ControlServiceStub(peer.channel).Join(hello(), metadata=peer.metadata)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        error = EvenflowError.from_rpc_error(refused.value)
        assert error.reason == Reason.ERROR_REASON_ACCESS_DENIED and f"cannot join as {node_id}" in error.message
        await peer.close()


async def test_a_server_must_be_whom_control_named(fleet: TlsFleet) -> None:
    """A caller that looks for queue-1, or for a queue node where a host answers, sends nothing there."""
    operator = fleet.tls_of("operator")
    for node_id, name in (
        ("queue-0", server_name("queue", "queue-1")),
        ("runtime-0", server_name("queue", "queue-0")),
        ("poller-0", server_name("control", "control")),
    ):
        stub, method, request = CALLS[role_of(node_id)]
        peer = Peer.dial(fleet.address(node_id), fleet.token, operator, name)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await getattr(stub(peer.channel), method)(request, metadata=peer.metadata, timeout=CALL_SECONDS)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        await peer.close()


async def test_a_renewed_certificate_is_served_without_a_restart(fleet: TlsFleet) -> None:
    """Running `evenflow certs` again is enough for whoever listens."""
    before = fleet.tls_of("queue/queue-0").identity.serial
    assert await asyncio.to_thread(served_serial, fleet, "queue-0") == before
    renewing = CertificateFolder(fleet.certs, datetime.now(UTC))
    renewing.ensure([Holder("queue", "queue-0")], days=60, renew_days=45)
    after = fleet.tls_of("queue/queue-0").identity.serial
    assert after != before
    await asyncio.to_thread(wait_until, lambda: served_serial(fleet, "queue-0") == after, 5.0, "the new one")


def served_serial(fleet: TlsFleet, node_id: str) -> int:
    """The serial number of the certificate that a node shows now."""
    folder = fleet.folder_of("operator")
    context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    context.load_cert_chain(folder / "node.crt", folder / "node.key")
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", fleet.ports[node_id]), 5) as raw,
        context.wrap_socket(raw, server_hostname=server_name(role_of(node_id), node_id)) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return identity_of(ssl.DER_cert_to_PEM_cert(shown).encode()).serial


def test_health_is_asked_with_the_service_s_own_certificate(fleet: TlsFleet) -> None:
    """What a container's health check runs: 0 for a service that serves, 1 for a port where nobody is."""
    for node_id, listen, code in (("queue-0", "", 0), ("control", "", 0), ("poller-0", "127.0.0.1:1", 1)):
        environment = {
            **os.environ,
            **fleet.environment_of(HOLDERS[node_id]),
            "EVENFLOW_NODE_ID": node_id,
            "EVENFLOW_DATA_DIR": "/",
            "EVENFLOW_RUN_DIR": "/",
            "EVENFLOW_LISTEN": listen or fleet.address(node_id),
        }
        done = subprocess.run(
            [sys.executable, "-m", "services.shared.health"],
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr


def test_commands_say_what_control_refuses(fleet: TlsFleet) -> None:
    """A poller's certificate is not an operator's."""
    done = run_cli("keys", "create", env=fleet.environment_of("poller"))
    assert done.returncode == 1 and "ACCESS_DENIED" in done.stderr and "role poller" in done.stderr
