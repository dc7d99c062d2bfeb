"""Layers on this host: each a checked package; several are merged once into one folder, by their SHA-256 in order."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.policy.package_rules import MAX_TOTAL_BYTES
from services.runtime.packages import Package, PackageStore
from services.runtime.runtimes import python_folders
from services.shared.errors import EvenflowError, Reason

FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a function as one folder, laid at /opt; "" when it has none."""

    folder: str = ""

    def python_names(self, line: str) -> frozenset[str]:
        """Names of the modules that they bring for this Python, such as "3.12"."""
        if not self.folder:
            return frozenset()
        found: set[str] = set()
        for folder in python_folders(self.folder, line):
            try:
                found.update(name.removesuffix(".py") for name in os.listdir(folder))
            except OSError:
                continue
        return frozenset(found)


NO_LAYERS = Layers()


class LayerStore:
    """Merged folders beside the packages that they are made of."""

    def __init__(self, folder: Path, packages: PackageStore) -> None:
        self._folder = folder
        self._packages = packages
        self._under_way: dict[str, asyncio.Task[Layers]] = {}

    def keep_in(self, folder: Path) -> None:
        """Use this folder; before `prepare`."""
        self._folder = folder

    def prepare(self) -> None:
        """Make the folder; what a killed process left half way is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # As for packages: sandboxes pass through, nobody lists it.
        self._folder.chmod(0o711)
        for left in self._folder.glob("*.new"):
            shutil.rmtree(left, ignore_errors=True)

    async def get(self, code: Package, hashes: Sequence[bytes]) -> Layers:
        """The layers in order, later ones over earlier ones. EvenflowError: not to be had, INVALID_PACKAGE."""
        if not hashes:
            return NO_LAYERS
        packages = [await self._packages.get(one) for one in hashes]
        await asyncio.to_thread(_check_size, code, packages)
        name = hashlib.sha256(b"".join(hashes)).hexdigest()
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.create_task(self._make(name, packages), name="layers")
            task.add_done_callback(lambda _done: self._under_way.pop(name, None))
        # Whoever gives up must not take it from the others.
        return await asyncio.shield(task)

    async def _make(self, name: str, packages: Sequence[Package]) -> Layers:
        target = self._folder / name
        if not target.is_dir():
            try:
                await asyncio.to_thread(_merge, packages, target)
            except OSError as e:
                raise EvenflowError(
                    Reason.ERROR_REASON_UNAVAILABLE, f"the layers cannot be stored on this host: {e.strerror}"
                ) from None
        return Layers(str(target))


def _check_size(code: Package, layers: Sequence[Package]) -> None:
    total_bytes = sum(_size_of(package.code_dir) for package in (code, *layers))
    if total_bytes > MAX_TOTAL_BYTES:
        raise EvenflowError(
            Reason.ERROR_REASON_INVALID_PACKAGE,
            f"code and layers unpack to {total_bytes:,} bytes; at most {MAX_TOTAL_BYTES:,} are possible: "
            "leave out what is not needed",
        )


def _size_of(folder: str) -> int:
    return sum(os.lstat(os.path.join(root, name)).st_size for root, _, files in os.walk(folder) for name in files)


def _merge(packages: Sequence[Package], target: Path) -> None:
    """Beside its place, then moved: the folder is there whole or not at all."""
    fresh = target.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        for package in packages:
            _lay(Path(package.code_dir), fresh)
        os.chmod(fresh, FOLDER_MODE)
        fresh.replace(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _lay(layer: Path, over: Path) -> None:
    for root, folders, files in os.walk(layer):
        place = over / os.path.relpath(root, layer)
        for name in folders:
            folder = place / name
            if not folder.is_dir():
                folder.unlink(missing_ok=True)
                folder.mkdir()
                folder.chmod(FOLDER_MODE)
        for name in files:
            path = place / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            # The same bytes under one more name: a layer that many functions use is on the disk once.
            os.link(os.path.join(root, name), path)
