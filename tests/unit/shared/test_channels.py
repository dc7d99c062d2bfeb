"""gRPC set-up: the fleet's token on every inner call, health without it, addresses and their sockets."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.shared.channels import TOKEN_KEY, GrpcServer, Peer, carries_token, read_token
from services.shared.errors import EvenflowError, Reason
from tests.kit.interposer import Interposer

TOKEN = "t" * 40
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
NAME = "test.Echo"
# In each direction.
GREETING_SECONDS = 0.3


async def unary(_request: Any, _context: Any) -> bytes:
    return b"in"


async def stream(_request: Any, _context: Any) -> AsyncIterator[bytes]:
    yield b"in"


def echo_server(token: str | None) -> GrpcServer:
    """A server with one method of each shape."""
    server = GrpcServer(token, [NAME])
    handlers: dict[str, Any] = {
        "unary_unary": grpc.unary_unary_rpc_method_handler(unary),
        "unary_stream": grpc.unary_stream_rpc_method_handler(stream),
        "stream_unary": grpc.stream_unary_rpc_method_handler(unary),
        "stream_stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    return server


async def call(peer: Peer, shape: str, metadata: Any) -> bytes:
    """One call of this shape; EvenflowError when it is refused."""
    asked, answered = shape.split("_")
    request: Any = b"" if asked == "unary" else iter([b""])
    running = getattr(peer.channel, shape)(f"/{NAME}/{shape}")(request, metadata=metadata)
    try:
        if answered == "unary":
            return bytes(await running)
        return b"".join([part async for part in running])
    except grpc.aio.AioRpcError as e:
        raise EvenflowError.from_rpc_error(e) from None


async def test_every_shape_of_call_needs_the_token(run_dir: Path) -> None:
    """The right one is let in; none, another, or a part of it is refused, typed."""
    server = echo_server(TOKEN)
    server.bind(f"unix:{run_dir}/s.sock")
    await server.start()
    peer = Peer.dial(f"unix:{run_dir}/s.sock", TOKEN)
    try:
        for shape in SHAPES:
            assert await call(peer, shape, peer.metadata) == b"in"
            for bad in ((), ((TOKEN_KEY, "x" * 40),), ((TOKEN_KEY, TOKEN[:-1]),), (("other-key", TOKEN),)):
                with pytest.raises(EvenflowError, match=TOKEN_KEY) as refused:
                    await call(peer, shape, bad)
                assert refused.value.reason == Reason.ERROR_REASON_UNAUTHENTICATED
    finally:
        await peer.close()
        await server.stop(0)


async def test_a_server_that_is_slow_to_greet_is_waited_for(run_dir: Path) -> None:
    """As one on a busy machine is; nobody has to try again."""
    path = run_dir / "s.sock"
    server = echo_server(TOKEN)
    server.bind(f"unix:{path}")
    await server.start()
    peer = Peer.dial(f"unix:{path}", TOKEN)
    try:
        with Interposer(path) as proxy:
            proxy.delay(GREETING_SECONDS)
            assert await call(peer, "unary_unary", peer.metadata) == b"in"
    finally:
        await peer.close()
        await server.stop(0)


async def test_a_door_needs_no_token(run_dir: Path) -> None:
    server = echo_server(None)
    server.bind(f"unix:{run_dir}/s.sock")
    await server.start()
    peer = Peer.dial(f"unix:{run_dir}/s.sock", "")
    try:
        assert [await call(peer, shape, ()) for shape in SHAPES] == [b"in"] * 4
    finally:
        await peer.close()
        await server.stop(0)


async def test_health_is_told_without_the_token(run_dir: Path) -> None:
    """As a whole and by service; a draining server says that it does not serve."""
    server = echo_server(TOKEN)
    server.bind(f"unix:{run_dir}/s.sock")
    await server.start()
    peer = Peer.dial(f"unix:{run_dir}/s.sock", TOKEN)
    try:
        stub: Any = health_pb2_grpc.HealthStub(peer.channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", NAME):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == serving
        await server.set_serving(False)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=NAME))
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    finally:
        await peer.close()
        await server.stop(0)


async def test_a_socket_left_by_a_killed_process_is_no_obstacle(run_dir: Path) -> None:
    """It is replaced, and only its owner may use the new one."""
    path = run_dir / "s.sock"
    path.touch()
    server = echo_server(TOKEN)
    server.bind(f"unix:{path}")
    await server.start()
    try:
        assert os.stat(path).st_mode & 0o777 == 0o600
    finally:
        await server.stop(0)


async def test_a_taken_port_is_said_with_its_address() -> None:
    first, second = echo_server(TOKEN), echo_server(TOKEN)
    port = first.bind("127.0.0.1:0")
    try:
        with pytest.raises(OSError, match=f"127.0.0.1:{port}"):
            second.bind(f"127.0.0.1:{port}")
    finally:
        await first.stop(0)
        await second.stop(0)


def test_a_token_file_is_private_and_long_enough(tmp_path: Path) -> None:
    """Each refusal names the file and says what to do."""
    path = tmp_path / "token"
    with pytest.raises(ValueError, match="No such file"):
        read_token(str(path))
    path.write_text("short")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="32 characters"):
        read_token(str(path))
    path.write_text(TOKEN + "\n")
    path.chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        read_token(str(path))
    path.chmod(0o600)
    assert read_token(str(path)) == TOKEN


def test_the_token_counts_as_text_and_as_bytes() -> None:
    """gRPC gives either."""
    assert carries_token([("a", "b"), (TOKEN_KEY, TOKEN)], TOKEN)
    assert carries_token([(TOKEN_KEY, TOKEN.encode())], TOKEN)
    assert not carries_token(None, TOKEN) and not carries_token([(TOKEN_KEY, "ü")], TOKEN)
