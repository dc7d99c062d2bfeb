"""Where an attack takes place: secrets of others, a victim, and listeners, all of the host's own user."""

import asyncio
import contextlib
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any

MEMORY_MB = 128
TMP_MB = 64
MAX_PROCESSES = 64
MAX_FILES = 256
# What counts as success is far beyond what the limits allow.
BOMB_PROCESSES = 200
BOMB_DESCRIPTORS = 2_048
# Beyond what the host's own watch takes for too many.
BOMB_FILES = 140_000
VICTIM_SECONDS = 5.0
# In a namespace of its own where it may, so that there is one to enter.
_VICTIM = (
    "import ctypes, os, socket, sys; ctypes.CDLL(None).unshare(0x04000000); "
    "pair = socket.socketpair(); os.dup2(pair[0].fileno(), 3); pipe = os.pipe(); "
    "held = os.environ['VICTIM'] + ' in memory'; print('up', flush=True); sys.stdin.read()"
)


def new_secret() -> str:
    """A text that is found nowhere else."""
    return f"canary-{secrets.token_hex(8)}"


class Place:
    """One folder with a fleet's private things in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.mark = f"ef-{secrets.token_hex(4)}"
        self.token = f"{new_secret()}-{secrets.token_hex(24)}"
        self.host_secret, self.neighbour_secret, self.neighbour_file = new_secret(), new_secret(), new_secret()
        self.neighbour_code, self.own_secret = new_secret(), new_secret()
        self.paths: dict[str, str] = {"token": str(folder / "token")}
        self.pids: dict[str, int] = {}
        # Where the host extracts; told by whoever has seen it do so.
        self.packages = ""
        self.marker = f"{self.mark}-marker"
        self._ports = {"v4": 0, "v6": 0, "own": 0}
        self._own_address = _own_address()
        self._servers: list[asyncio.Server] = []
        self._victim: asyncio.subprocess.Process | None = None

    async def prepare(self) -> None:
        """Plant everything."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        self._plant("shard", self.data / "queue" / "queue-0" / "shard-0000.db", 0o644)
        self._plant("key", self.data / "certs" / "ca.key", 0o600)
        self._plant("other bucket", self.data / "buckets" / "other" / "secret", 0o644)
        self._plant("other bucket's neighbour", self.data / "buckets" / "reading" / "kept", 0o644, secret=False)
        (self.data / "buckets" / "shared").mkdir()
        await self._listen()
        await self.revive()

    async def revive(self) -> None:
        """Have a victim that lives."""
        if self._victim is not None and self._victim.returncode is None:
            return
        self._victim = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            "-c",
            _VICTIM,
            env={"VICTIM": new_secret()},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._victim.stdout is not None
        async with asyncio.timeout(VICTIM_SECONDS):
            await self._victim.stdout.readline()
        self.pids["victim"] = self._victim.pid

    @property
    def secrets(self) -> set[str]:
        """Those that no command line, log or trace may hold."""
        found = {self.host_secret, self.neighbour_secret, self.neighbour_file, self.own_secret}
        return found | {self.neighbour_code, self.token.rpartition("-")[0]}

    def event(self, **more: Any) -> dict[str, Any]:
        """Everything that an attacker could ever know of this place, and more."""
        return {
            "paths": self.paths,
            "folders": [str(self.folder), str(self.data), str(self.data / "runtime")],
            "pids": self.pids,
            "sockets": sorted(str(path) for path in self.folder.glob("*.sock") if path.name != "open.sock"),
            "open_socket": str(self.folder / "open.sock"),
            "abstract_socket": self.mark,
            "ports": self._ports,
            "own_address": self._own_address,
            "buckets": {name: str(self.data / "buckets" / name) for name in ("shared", "reading")},
            "beside_buckets": ["other/secret", "buckets/other/secret", "certs/ca.key"],
            "packages": self.packages,
            "pid_namespace": os.stat("/proc/self/ns/pid").st_ino,
            "net_namespace": os.stat("/proc/self/ns/net").st_ino,
            "host_uid": os.geteuid(),
            "processes": BOMB_PROCESSES,
            "threads": BOMB_PROCESSES,
            "descriptors": BOMB_DESCRIPTORS,
            "memory_mb": MEMORY_MB,
            "tmp_mb": TMP_MB,
            "files": BOMB_FILES,
            "marker": self.marker,
            "own_secret": self.own_secret,
            **more,
        }

    async def close(self) -> None:
        """Take it all away; the folder is the caller's."""
        for server in self._servers:
            server.close()
        if self._victim is not None and self._victim.returncode is None:
            assert self._victim.stdin is not None
            self._victim.stdin.close()
            await self._victim.wait()

    def _plant(self, what: str, path: Path, mode: int, *, secret: bool = True) -> None:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(f"here is {new_secret() if secret else 'nothing'}\n")
        path.chmod(mode)
        if secret:
            self.paths[what] = str(path)

    async def _listen(self) -> None:
        async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(new_secret().encode())
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        async def tcp(name: str, address: str) -> None:
            server = await asyncio.start_server(tell, address, 0)
            self._servers.append(server)
            self._ports[name] = server.sockets[0].getsockname()[1]

        await tcp("v4", "127.0.0.1")
        with contextlib.suppress(OSError):
            await tcp("v6", "::1")
        if self._own_address:
            await tcp("own", self._own_address)
        for place in (str(self.folder / "open.sock"), f"\0{self.mark}"):
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(place)
            self._servers.append(await asyncio.start_unix_server(tell, sock=listener))
        # For everybody: what keeps a sandbox out must be more than the file's mode.
        os.chmod(self.folder / "open.sock", 0o777)


def _own_address() -> str:
    """An address of this machine that others see, "" when it has none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
    return "" if address.startswith("127.") else address
