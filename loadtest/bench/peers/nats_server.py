"""A NATS server of the bench's own with JetStream on a folder, on a port that it picks itself."""

import asyncio
import json
import shutil
from pathlib import Path

from loadtest.bench.processes import Child

HOST = "127.0.0.1"
START_SECONDS = 10.0
_POLL_SECONDS = 0.02


def find() -> str | None:
    """The program, if it is installed."""
    return shutil.which("nats-server")


class NatsServer:
    """One server; `start`, then `stop`. Its settings are its defaults: JetStream fsyncs its files every two minutes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._child: Child | None = None
        self.url = ""

    async def start(self) -> None:
        """Serve. RuntimeError: it ended at once; TimeoutError: it does not say where it listens."""
        told = self._folder / "ports"
        told.mkdir(parents=True, exist_ok=True)
        command = [find() or "nats-server", "--jetstream", "--store_dir", str(self._folder / "store")]
        # Port -1: a free one, which it writes into a file of that folder.
        command += ["--addr", HOST, "--port", "-1", "--ports_file_dir", str(told)]
        self._child = await Child.start("nats-server", command, self._folder / "nats.log")
        path = told / f"nats-server_{self._child.pid}.ports"
        async with asyncio.timeout(START_SECONDS):
            while not (url := _client_url(path)):
                self._child.check_alive()
                await asyncio.sleep(_POLL_SECONDS)
        self.url = url

    async def stop(self) -> None:
        """End it."""
        if self._child is not None:
            await self._child.stop()
            self._child = None


def _client_url(path: Path) -> str:
    """Where clients find the server; empty: it has not said so yet."""
    try:
        return str(json.loads(path.read_text())["nats"][0])
    except (FileNotFoundError, ValueError):
        # It makes the file, then fills it.
        return ""
