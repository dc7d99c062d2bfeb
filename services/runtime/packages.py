"""Code packages on this host: fetched once, verified, checked, extracted once, read-only, by their SHA-256."""

import asyncio
import hashlib
import os
import shutil
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from services.policy.package_rules import DEFLATED, MAX_PACKAGE_BYTES, Entry, check_package
from services.shared.errors import EvenflowError, Reason

FETCH_SECONDS = 60.0
_COPY_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Package:
    """An extracted package and the names at its top, which tell what it brings itself."""

    code_dir: str
    top_names: frozenset[str]


class PackageStore:
    """`fetch` gives the parts of the zip with this SHA-256; EvenflowError when it cannot."""

    def __init__(self, folder: Path, fetch: Callable[[bytes], AsyncIterator[bytes]]) -> None:
        self._folder = folder
        self._fetch = fetch
        self._ready: dict[bytes, Package] = {}
        self._under_way: dict[bytes, asyncio.Task[Package]] = {}

    def keep_in(self, folder: Path) -> None:
        """Use this folder; before `prepare`."""
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder; what a killed process left half way is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Sandboxes pass through; only who knows a package's SHA-256 finds it.
        self._folder.chmod(0o711)
        for left in self._folder.glob("*.new"):
            shutil.rmtree(left, ignore_errors=True)

    def known(self, code_sha256: bytes) -> Package | None:
        """The package when it is extracted already."""
        return self._ready.get(code_sha256)

    async def get(self, code_sha256: bytes) -> Package:
        """The package, fetched by the first who asks. EvenflowError: not to be had, INVALID_PACKAGE."""
        ready = self._ready.get(code_sha256)
        if ready is not None:
            return ready
        task = self._under_way.get(code_sha256)
        if task is None:
            task = asyncio.create_task(self._make(code_sha256), name="package")
            self._under_way[code_sha256] = task
            task.add_done_callback(lambda _done: self._under_way.pop(code_sha256, None))
        # Whoever gives up must not take it from the others.
        return await asyncio.shield(task)

    async def _make(self, code_sha256: bytes) -> Package:
        target = self._folder / code_sha256.hex()
        if not target.is_dir():
            data = await self._download(code_sha256)
            try:
                await asyncio.to_thread(_extract, data, target)
            except ValueError as e:
                raise EvenflowError(Reason.ERROR_REASON_INVALID_PACKAGE, str(e)) from None
            except OSError as e:
                raise EvenflowError(
                    Reason.ERROR_REASON_UNAVAILABLE, f"the package cannot be stored on this host: {e.strerror}"
                ) from None
        names = frozenset(name.removesuffix(".py") for name in os.listdir(target))
        package = self._ready[code_sha256] = Package(str(target), names)
        return package

    async def _download(self, code_sha256: bytes) -> bytes:
        data = bytearray()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                async for part in self._fetch(code_sha256):
                    data += part
                    if len(data) > MAX_PACKAGE_BYTES:
                        raise EvenflowError(
                            Reason.ERROR_REASON_INVALID_PACKAGE, f"the package is over {MAX_PACKAGE_BYTES:,} bytes"
                        )
        except TimeoutError:
            raise EvenflowError(
                Reason.ERROR_REASON_UNAVAILABLE, f"control did not send the package within {FETCH_SECONDS:.0f} s"
            ) from None
        if hashlib.sha256(data).digest() != code_sha256:
            raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "the package that arrived has another SHA-256")
        return bytes(data)


def _extract(data: bytes, target: Path) -> None:
    """Beside its place, then moved: a package is there whole or not at all. ValueError: it breaks a rule."""
    entries = check_package(data)
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        for entry in entries:
            path = fresh / entry.name
            if entry.is_folder:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(data, entry, path)
        for folder, _, _ in os.walk(fresh):
            os.chmod(folder, 0o755)
        fresh.replace(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _write(data: bytes, entry: Entry, path: Path) -> None:
    packed = memoryview(data)[entry.data_offset : entry.data_offset + entry.packed_bytes]
    written, crc = 0, 0
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        for part in _unpacked(packed, entry):
            written += len(part)
            if written > entry.size_bytes:
                break
            crc = zlib.crc32(part, crc)
            file.write(part)
        # Not by the umask: the sandbox's uid reads it as others.
        os.fchmod(fd, 0o755 if entry.is_executable else 0o644)
    if written != entry.size_bytes or crc != entry.crc32:
        raise ValueError(f"{entry.name!r} does not unpack to the size and checksum that the zip states")


def _unpacked(packed: memoryview, entry: Entry) -> "list[bytes] | _Inflated":
    return _Inflated(packed, entry.name) if entry.method == DEFLATED else [bytes(packed)]


class _Inflated:
    """The parts of a deflated entry, each of bounded size."""

    def __init__(self, packed: memoryview, name: str) -> None:
        self._rest = bytes(packed)
        self._name = name
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def __iter__(self) -> "_Inflated":
        return self

    def __next__(self) -> bytes:
        if self._inflate.eof:
            raise StopIteration
        try:
            part = self._inflate.decompress(self._rest, _COPY_BYTES)
        except zlib.error as e:
            raise ValueError(f"{self._name!r} is damaged: {e}") from None
        self._rest = self._inflate.unconsumed_tail
        if not part and not self._inflate.eof:
            raise ValueError(f"{self._name!r} is damaged: it ends too early")
        return part
