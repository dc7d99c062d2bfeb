"""The folder of a node's shards."""

from pathlib import Path

import pytest

from services.queue import identity


def test_the_names_of_the_folder_and_of_all_above_it_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(identity, "sync_directory", synced.append)
    made = tmp_path / "data" / "queue" / "queue-0"
    identity.make_directory(made)
    assert made.is_dir() and made.stat().st_mode & 0o777 == 0o700
    assert synced[:3] == [made.parent, made.parent.parent, tmp_path] and synced[-1] == Path("/")
    identity.make_directory(made)


def test_a_folder_above_that_is_not_ours_to_open_does_not_stop_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(identity, "sync_directory", refuse)
    identity.make_directory(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
