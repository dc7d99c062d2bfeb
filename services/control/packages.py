"""Code packages on disk, addressed by their SHA-256: there whole or not at all."""

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from services.control.folders import make_folder, sync_folder
from services.policy.package_rules import MAX_PACKAGE_BYTES, check_package
from services.shared.errors import EvenflowError, Reason, invalid

CHUNK_BYTES = 1 << 20
# Each may hold a whole package in memory.
MAX_UPLOADS = 4
UPLOAD_SECONDS = 300.0
# A package that nobody uses yet may be about to be used: this long it is left alone.
UNUSED_KEEP_SECONDS = 3_600.0
log = logging.getLogger(__name__)


class PackageStore:
    """`packages/ab/<sha256>.zip`."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._total_bytes = 0
        self._uploads = asyncio.Semaphore(MAX_UPLOADS)

    def prepare(self) -> None:
        """Make the folder, remove what a killed process left half way, count what is there."""
        make_folder(self._folder)
        for left in self._folder.glob("*.new"):
            left.unlink()
        self._total_bytes = sum(path.stat().st_size for path in self._folder.glob("??/*.zip"))

    def size_of(self, code_sha256: bytes) -> int | None:
        """Bytes of a stored package; None: it is not here."""
        try:
            return self._path_of(code_sha256).stat().st_size
        except FileNotFoundError:
            return None

    async def receive(self, chunks: AsyncIterator[bytes]) -> tuple[bytes, bytes]:
        """All of an upload, checked: (its SHA-256, the zip). EvenflowError INVALID_PACKAGE, INVALID_PARAMETER."""
        async with self._uploads:
            data = bytearray()
            try:
                async with asyncio.timeout(UPLOAD_SECONDS):
                    async for chunk in chunks:
                        if len(chunk) > CHUNK_BYTES:
                            raise invalid(f"a chunk has {len(chunk):,} bytes; at most {CHUNK_BYTES:,} are taken")
                        data += chunk
                        if len(data) > MAX_PACKAGE_BYTES:
                            text = (
                                f"the package is larger than {MAX_PACKAGE_BYTES:,} bytes: leave out what is not needed"
                            )
                            raise EvenflowError(Reason.ERROR_REASON_INVALID_PACKAGE, text)
            except TimeoutError:
                raise EvenflowError(
                    Reason.ERROR_REASON_DEADLINE_EXCEEDED, f"the package did not arrive within {UPLOAD_SECONDS:.0f} s"
                ) from None
            return await asyncio.to_thread(_checked, bytes(data))

    async def store(self, code_sha256: bytes, data: bytes) -> None:
        """Keep a package, durably. EvenflowError DISK_FULL: the volume or the store's bound is full."""
        if self.size_of(code_sha256) is not None:
            # Its age counts anew: it is about to be used.
            await asyncio.to_thread(os.utime, self._path_of(code_sha256))
            return
        if not self.has_room(len(data)):
            raise EvenflowError(
                Reason.ERROR_REASON_DISK_FULL,
                f"packages take {self._total_bytes:,} bytes of {self._max_bytes:,} (control.packages_max_bytes): "
                "delete functions, or raise it",
            )
        try:
            await asyncio.to_thread(self._write, code_sha256, data)
        except OSError as e:
            raise EvenflowError(
                Reason.ERROR_REASON_DISK_FULL, f"the package cannot be stored: {e.strerror}: make room"
            ) from e
        self._total_bytes += len(data)

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more fits the store's bound."""
        return self._total_bytes + size_bytes <= self._max_bytes

    def remove_unused(self, used: Iterable[bytes], now_seconds: float) -> None:
        """Make room: packages that no function uses and that were not uploaded lately go."""
        kept = {code.hex() for code in used}
        for path in self._folder.glob("??/*.zip"):
            stat = path.stat()
            if path.stem not in kept and now_seconds - stat.st_mtime > UNUSED_KEEP_SECONDS:
                path.unlink()
                self._total_bytes -= stat.st_size
                log.info("package %s, which no function uses, was removed", path.stem)

    async def read(self, code_sha256: bytes) -> AsyncIterator[bytes]:
        """The package in parts. EvenflowError INVALID_PARAMETER: it is not here."""
        try:
            file = await asyncio.to_thread(open, self._path_of(code_sha256), "rb")
        except FileNotFoundError:
            raise invalid(
                f"there is no package with SHA-256 {code_sha256[:64].hex()}: upload it with UploadPackage first"
            ) from None
        with file:
            while part := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield part

    def _path_of(self, code_sha256: bytes) -> Path:
        name = code_sha256[:64].hex()
        return self._folder / name[:2] / f"{name}.zip"

    def _write(self, code_sha256: bytes, data: bytes) -> None:
        target = self._path_of(code_sha256)
        target.parent.mkdir(exist_ok=True)
        # Also when it is there: another upload may have made it just now, or a process that was killed.
        sync_folder(self._folder)
        # Two uploads of one package at once write two files and give the last one the name: their bytes are the same.
        fresh = self._folder / f"{target.stem}-{os.urandom(4).hex()}.new"
        try:
            with open(fresh, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(target)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def _checked(data: bytes) -> tuple[bytes, bytes]:
    try:
        check_package(data)
    except ValueError as e:
        raise EvenflowError(Reason.ERROR_REASON_INVALID_PACKAGE, str(e)) from None
    return hashlib.sha256(data).digest(), data
