"""Names of what control makes are durable before it counts on them."""

import os
from pathlib import Path

import pytest

from services.control.database import Database, lock_folder
from services.control.packages import PackageStore


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder that is synced, in order; what it holds at that moment is what a power loss leaves."""
    found: list[Path] = []
    sync = os.fsync

    def record(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            found.append(path)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return found


def test_folders_that_are_made_are_synced_in_those_above(tmp_path: Path, synced: list[Path]) -> None:
    """From the top down, the data folder itself included."""
    folder = tmp_path / "new" / "data" / "control"
    os.close(lock_folder(folder))
    assert synced == [tmp_path, tmp_path / "new", tmp_path / "new" / "data"]


def test_what_a_killed_process_made_is_synced_by_the_next(tmp_path: Path, synced: list[Path]) -> None:
    """That a folder or file is there does not say that its name is durable."""
    for _ in range(2):
        synced.clear()
        os.close(lock_folder(tmp_path / "control"))
        Database(tmp_path / "control" / "control.db").close()
        store = PackageStore(tmp_path / "control" / "packages", 1 << 20)
        store.prepare()
        assert synced == [tmp_path, tmp_path / "control", tmp_path / "control"]


async def test_a_package_is_durable_with_its_folder(tmp_path: Path, synced: list[Path]) -> None:
    """Every time: another upload may have made the folder, and not have synced it yet."""
    store = PackageStore(tmp_path / "packages", 1 << 20)
    store.prepare()
    for code in (b"\xab" + b"1" * 31, b"\xab" + b"2" * 31):
        synced.clear()
        await store.store(code, b"zip")
        assert synced == [tmp_path / "packages", tmp_path / "packages" / "ab"]
