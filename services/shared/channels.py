"""gRPC set-up on both sides: options, TLS, the fleet's token, health and reflection on every server."""

import asyncio
import contextlib
import hmac
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.shared.errors import EvenflowError, Reason, abort
from services.shared.gate import CertificateGate
from services.shared.tls import Tls

TOKEN_KEY = "evenflow-fleet-token"
# A sync payload may hold 6 MiB; the rest is room for the envelope.
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead or half-open peer shows within keepalive time + timeout.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Its own default is a minute and wins over the keepalive's.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS: list[tuple[str, Any]] = [
    *_OPTIONS,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
]
# Reconnects are ours to pace (services.shared.streams); keep the channel's own back-off short.
_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    *_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    # Against its name it bounds how long one attempt to connect may take: a busy machine needs more for a handshake
    # than an idle one, and attempts that are given up make it busier.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
log = logging.getLogger(__name__)


def read_token(path: str) -> str:
    """The fleet's token from its file. ValueError: missing, empty or readable by others."""
    try:
        token = Path(path).read_text().strip()
    except OSError as e:
        raise ValueError(f"token.file {path}: {e.strerror}") from e
    if len(token) < 32:
        raise ValueError(f"token.file {path}: at least 32 characters are expected")
    if os.stat(path).st_mode & 0o077:
        raise ValueError(f"token.file {path}: must not be readable by group or others (chmod 600)")
    return token


@dataclass(frozen=True, slots=True)
class Peer:
    """A channel to another process of the fleet and the metadata that every call on it carries."""

    target: str
    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]

    @classmethod
    def dial(cls, target: str, token: str, tls: Tls | None = None, name: str = "") -> "Peer":
        """A channel that connects lazily and reconnects by itself.

        tls: this process's certificate; then the other one must prove to be `name` (services.shared.identity).
        """
        if tls is None or target.startswith("unix:"):
            channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            channel = tls.channel(target, name, _CHANNEL_OPTIONS)
        return cls(target, channel, ((TOKEN_KEY, token),))

    async def close(self) -> None:
        """Close the channel and every call on it."""
        await self.channel.close()


def carries_token(metadata: Iterable[tuple[str, str | bytes]] | None, token: str) -> bool:
    """Whether a call's metadata has the fleet's token."""
    for key, value in metadata or ():
        if key == TOKEN_KEY:
            given = value if isinstance(value, bytes) else value.encode()
            return hmac.compare_digest(given, token.encode())
    return False


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call without the fleet's token, but for health checks."""

    def __init__(self, token: str) -> None:
        self._token = token

        async def refuse(_request: Any, context: Any) -> None:
            await abort(
                context,
                EvenflowError(
                    Reason.ERROR_REASON_UNAUTHENTICATED,
                    f"inner calls need the fleet's token in metadata {TOKEN_KEY!r}",
                ),
            )

        # One handler for each way of calling: gRPC picks by the method's own shape, the refusal is the same.
        self._refusals: dict[tuple[bool, bool], Any] = {
            (False, False): grpc.unary_unary_rpc_method_handler(refuse),
            (False, True): grpc.unary_stream_rpc_method_handler(refuse),
            (True, False): grpc.stream_unary_rpc_method_handler(refuse),
            (True, True): grpc.stream_stream_rpc_method_handler(refuse),
        }

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The method's own handler, or the refusal."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc.health.v1.Health/"):
            return handler
        metadata: Any = handler_call_details.invocation_metadata
        if carries_token(metadata, self._token):
            return handler
        return self._refusals[handler.request_streaming, handler.response_streaming]


class GrpcServer:
    """One gRPC server with health checking and reflection; `token` None makes it a public door.

    tls: callers prove by their certificates who they are, and call what their roles may (services.shared.call_rules).
    """

    def __init__(self, token: str | None, service_names: Iterable[str], tls: Tls | None = None) -> None:
        self._tls = tls
        self._gate = CertificateGate(tls.revoked) if tls is not None else None
        self._sweeping: asyncio.Task[None] | None = None
        interceptors: list[grpc.aio.ServerInterceptor] = [self._gate] if self._gate is not None else []
        if token is not None:
            interceptors.append(TokenInterceptor(token))
        self.server = grpc.aio.server(options=_SERVER_OPTIONS, interceptors=interceptors)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        self._names = tuple(service_names)
        reflection.enable_server_reflection((*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME), self.server)

    def bind(self, address: str) -> int:
        """Bind an address ("unix:PATH" or "HOST:PORT"); returns the port. OSError: it is taken."""
        if address.startswith("unix:"):
            # A killed process leaves its socket file, which would refuse the bind; two fleets are kept apart by the
            # lock of the data directory.
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)
        try:
            if self._tls is not None:
                port = self.server.add_secure_port(address, self._tls.server_credentials())
            else:
                port = self.server.add_insecure_port(address)
        except RuntimeError as e:
            raise OSError(f"cannot listen on {address}: {e}") from e
        if address.startswith("unix:"):
            os.chmod(address.removeprefix("unix:"), 0o600)
        return port

    async def start(self) -> None:
        """Serve, and say so to health checks."""
        await self.server.start()
        if self._gate is not None:
            self._sweeping = asyncio.create_task(self._gate.sweep_forever(), name="certificates")
        await self.set_serving(True)

    async def set_serving(self, serving: bool) -> None:
        """What health checks are told."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let running ones end within the grace, then cancel them."""
        await self._health.enter_graceful_shutdown()
        await self.server.stop(grace_seconds)
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
