"""A Redis of the bench's own on a unix socket: append-only file, fsync every second or before every answer."""

import asyncio
import shutil
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from loadtest.bench.processes import Child

START_SECONDS = 10.0
_POLL_SECONDS = 0.02
FSYNC_MODES = ("everysec", "always")


def find() -> str | None:
    """The program, if it is installed."""
    return shutil.which("redis-server")


class RedisServer:
    """One server; `start`, then `stop`."""

    def __init__(self, folder: Path, fsync: str) -> None:
        self.fsync = fsync
        self._folder = folder
        self.socket = folder / "r.sock"
        self.client: Redis = Redis(unix_socket_path=str(self.socket))
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self.socket}"

    async def start(self) -> None:
        """Serve. RuntimeError: it ended at once; TimeoutError: it does not answer."""
        self._folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": self.fsync,
            # A rewrite of the log in the middle of a measurement would be charged to it by chance.
            "auto-aof-rewrite-percentage": "0",
            "daemonize": "no",
        }
        command = [find() or "redis-server"]
        for name, value in options.items():
            command += [f"--{name}", value]
        self._child = await Child.start(f"redis ({self.fsync})", command, self._folder / "redis.log")
        async with asyncio.timeout(START_SECONDS):
            while True:
                self._child.check_alive()
                try:
                    await self.client.ping()
                    return
                except (RedisConnectionError, FileNotFoundError):
                    await asyncio.sleep(_POLL_SECONDS)

    async def stop(self) -> None:
        """End it."""
        await self.client.aclose()
        if self._child is not None:
            await self._child.stop()
            self._child = None
