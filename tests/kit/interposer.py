"""A proxy in front of a node's unix socket: everybody who calls the node goes through it, and it can be told to fail.

The socket file is moved aside and the proxy listens under its name, so neither side is told anything. Bytes are passed
on, held back for a time, or swallowed in one direction or both; connections can be cut. What HTTP/2 needs to stay whole
is left whole: a connection that lost bytes is cut when the fault ends, as a network's reset would.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 10.0
CHUNK_BYTES = 65_536


class Interposer:
    """Inside `with`: the proxy is between the node and everybody else. All methods are for the test's own thread."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._aside = socket_path.with_suffix(".real")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {socket_path.name}", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._delay_seconds = 0.0
        self._swallows = {"in": False, "out": False}
        self._lost_bytes = False
        self._refuses = False

    def __enter__(self) -> "Interposer":
        self._thread.start()
        self._path.rename(self._aside)
        self._call(self._start)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._call(self._stop)
        self._path.unlink(missing_ok=True)
        # A node that was started anew listens under its own name already.
        with contextlib.suppress(FileNotFoundError):
            self._aside.rename(self._path)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Hold every piece back for so long, in both directions; 0: no more."""
        self._delay_seconds = seconds

    def swallow(self, *, requests: bool = False, answers: bool = False) -> None:
        """Lose what callers send, or what the node answers: both is a half-open connection, one a one-way cut."""
        self._swallows = {"in": requests, "out": answers}

    def refuse(self) -> None:
        """End every connection, and every new one at once."""
        self._refuses = True
        self.cut()

    def heal(self) -> None:
        """Pass everything on again. Connections that lost bytes are cut."""
        self._refuses = False
        self._delay_seconds = 0.0
        self._swallows = {"in": False, "out": False}
        if self._lost_bytes:
            self.cut()
        self._lost_bytes = False

    def cut(self) -> None:
        """End every connection now; new ones are let in."""
        self._call(self._cut)

    def _call(self, run: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(_as_coroutine(run), self._loop).result(START_SECONDS)

    async def _start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, str(self._path))
        self._path.chmod(0o600)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self._refuses:
                return
            node_reader, node_writer = await asyncio.open_unix_connection(str(self._aside))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, node_writer, "in"))
                    group.create_task(self._pass(node_reader, writer, "out"))
            finally:
                node_writer.close()
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            writer.close()
            self._connections.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            if self._swallows[way]:
                self._lost_bytes = True
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError("the other side is done")


async def _as_coroutine(run: Callable[[], object]) -> None:
    result = run()
    if asyncio.iscoroutine(result):
        await result
