"""The HTTP port: binds, serves, sweeps, drains."""

import asyncio
import contextlib
import errno
import socket

from services.frontend.http_door import HttpDoor
from services.frontend.http_protocol import HttpConnections
from services.frontend.settings import FrontendSettings
from services.shared.clock import Clock

BACKLOG = 1_024
SWEEP_SECONDS = 1.0


def parse_address(text: str, key: str) -> tuple[str, int]:
    """Host and port of "HOST:PORT". ValueError, naming the setting: another form."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{key} must be HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def bind(text: str, key: str, flag: str) -> socket.socket:
    """A bound TCP socket. OSError, for one line: it is taken, and which option names another."""
    host, port = parse_address(text, key)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except OSError as e:
        bound.close()
        if e.errno == errno.EADDRINUSE:
            raise OSError(f"{text} is in use: stop what listens there, or choose another with {flag}") from None
        raise OSError(f"cannot listen on {text}: {e.strerror or e}") from None
    bound.setblocking(False)
    return bound


class HttpServer:
    """Serves the door on one TCP address."""

    def __init__(self, settings: FrontendSettings, door: HttpDoor, clock: Clock) -> None:
        self._address = settings.http_listen
        self._door = door
        self.connections = HttpConnections(
            door,
            clock,
            max_connections=settings.max_connections,
            max_buffered_bytes=settings.max_pending_bytes,
            idle_ms=settings.idle_seconds * 1_000,
            request_ms=settings.request_seconds * 1_000,
        )
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.port = 0

    def bind(self) -> None:
        """Take the address. OSError: it is in use."""
        self._socket = bind(self._address, "http.listen", "--http-port")
        self.port = self._socket.getsockname()[1]

    async def start(self) -> None:
        """Take connections."""
        assert self._socket is not None, "bind first"
        self._server = await asyncio.get_running_loop().create_server(self.connections.make, sock=self._socket)
        self._sweeper = asyncio.create_task(self._sweep(), name="http sweep")

    def drain(self) -> None:
        """Take no new connection; close those that owe nothing, refuse new requests on the others."""
        self._door.drain()
        if self._server is not None:
            self._server.close()
        self.connections.drain()

    async def stop(self) -> None:
        """Cut what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        if self._server is not None:
            self._server.close()
        self.connections.abort()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.connections.sweep()
