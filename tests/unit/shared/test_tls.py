"""A process's own certificate: what it refuses to start with, and what ends while it runs."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from cli.certificates.folder import CertificateFolder, parse_holders
from services.shared.channels import GrpcServer, Peer
from services.shared.errors import EvenflowError, Reason
from services.shared.gate import current_caller
from services.shared.identity import server_name
from services.shared.settings import NodeSettings, load
from services.shared.tls import Tls, check_listen, check_node
from tests.kit.tls_fleet import files_of

TOKEN = "t" * 40
SERVICE = "grpc.health.v1.Health"  # a name that every role may call
NODE = {"EVENFLOW_NODE_ID": "queue-0", "EVENFLOW_DATA_DIR": "/d", "EVENFLOW_RUN_DIR": "/r", "EVENFLOW_TOKEN_FILE": "/t"}


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """A folder of `evenflow certs`."""
    CertificateFolder(tmp_path).ensure(parse_holders(["queue/queue-0", "runtime", "poller"]), 30, 5)
    return tmp_path


def test_files_that_do_not_fit_are_refused(certs: Path, tmp_path: Path) -> None:
    """A key that others can read, another's key, no certificate, one that has ended, one half of the settings."""
    mine, other = files_of(certs / "queue-0"), files_of(certs / "runtime")
    key = Path(mine.key)
    key.chmod(0o640)
    with pytest.raises(ValueError, match=r"tls\.key_file .*chmod 600"):
        Tls(mine)
    key.write_bytes(Path(other.key).read_bytes())
    key.chmod(0o600)
    with pytest.raises(ValueError, match="not the key of"):
        Tls(mine)
    Path(other.certificate).write_text("nonsense")
    with pytest.raises(ValueError, match="not what it must be"):
        Tls(other)
    Path(other.ca).unlink()
    with pytest.raises(ValueError, match=r"tls\.ca_file"):
        Tls(other)
    CertificateFolder(tmp_path / "old", datetime.now(UTC) - timedelta(days=40)).ensure(parse_holders(["poller"]), 30, 5)
    with pytest.raises(ValueError, match=r"has ended: `evenflow certs`"):
        Tls(files_of(tmp_path / "old" / "poller"))
    with pytest.raises(ValueError, match="together or not at all"):
        Tls.of(load(NodeSettings, {**NODE, "EVENFLOW_TLS_CA_FILE": mine.ca}))
    assert Tls.of(load(NodeSettings, NODE)) is None


def test_where_inner_calls_may_come_in(certs: Path) -> None:
    """Beyond loopback with TLS only; over unix sockets without; a node with its own certificate."""
    tls = Tls(files_of(certs / "queue-0"))
    for address in ("unix:/r/queue-0.sock", "127.0.0.1:7000", "localhost:7000", "[::1]:7000"):
        check_listen(address, None)
    check_listen("0.0.0.0:7000", tls)
    for address in ("0.0.0.0:7000", "queue-0:7000", "[::]:7000"):
        with pytest.raises(ValueError, match="evenflow certs"):
            check_listen(address, None)
    with pytest.raises(ValueError, match="for TCP"):
        check_listen("unix:/r/queue-0.sock", tls)
    check_node(tls, "queue", "queue-0")
    check_node(None, "queue", "queue-1")
    check_node(Tls(files_of(certs / "runtime")), "runtime", "any-one")
    with pytest.raises(ValueError, match="certificate of queue/queue-0"):
        check_node(tls, "queue", "queue-1")


async def test_what_ends_while_it_is_used_is_cut(certs: Path) -> None:
    """Calls know their caller; one that is open when its certificate ends is ended, typed; the next is refused."""
    callers: list[str] = []

    async def hold(_request: Any, context: Any) -> None:
        callers.append(str(current_caller()))
        await context.write(b"open")
        await context.read()

    async def tell(_request: Any, _context: Any) -> bytes:
        return str(current_caller()).encode()

    server = GrpcServer(TOKEN, [], Tls(files_of(certs / "queue-0")))
    handlers: dict[str, Any] = {
        "Hold": grpc.stream_stream_rpc_method_handler(hold),
        "Tell": grpc.unary_unary_rpc_method_handler(tell),
    }
    server.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.bind("127.0.0.1:0")
    await server.start()
    peer = Peer.dial(f"127.0.0.1:{port}", TOKEN, Tls(files_of(certs / "poller")), server_name("queue", "queue-0"))
    try:
        ask: Any = peer.channel.unary_unary(f"/{SERVICE}/Tell")
        assert await ask(b"", metadata=peer.metadata) == b"poller"
        call: Any = peer.channel.stream_stream(f"/{SERVICE}/Hold")(metadata=peer.metadata)
        assert await call.read() == b"open" and callers == ["poller"]
        gate = server._gate
        assert gate is not None
        gate._wall_seconds = (datetime.now(UTC) + timedelta(days=31)).timestamp
        gate.sweep()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert EvenflowError.from_rpc_error(ended.value).reason == Reason.ERROR_REASON_UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(b"", metadata=peer.metadata)
        assert "has ended" in str(refused.value.details())
        assert not gate._open and not gate._ended
    finally:
        await peer.close()
        await server.stop(0)
