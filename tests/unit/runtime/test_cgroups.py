"""What is written into which control group: version 2 on a recorded tree; the limits' tests use what is here."""

from pathlib import Path

import pytest

from services.runtime import cgroups
from services.runtime.cgroups import Cgroups, Limits

LIMITS = Limits(memory_mb=1_769, processes=64, has_quota=False)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What was written, by the last two parts of each path."""
    found: dict[str, str] = {}

    def write(path: Path, text: str) -> None:
        found["/".join(path.parts[-2:])] = text

    monkeypatch.setattr(cgroups, "_write", write)
    return found


def delegated(folder: Path, controllers: str = "cpu memory pids") -> str:
    folder.mkdir()
    (folder / "cgroup.controllers").write_text(controllers)
    return str(folder)


def test_a_delegated_group_is_divided(tmp_path: Path, writes: dict[str, str]) -> None:
    """The controllers are handed down to the host's group, and from there to each sandbox's."""
    groups = Cgroups("runtime-0", delegated(tmp_path / "own"))
    assert not groups.missing
    assert writes["own/cgroup.subtree_control"] == "+memory +pids +cpu"
    first, second = groups.take(), groups.take()
    assert first.number != second.number and len(first.entrances) == 1 and first.entrances != second.entrances
    groups.give_back(first)
    assert groups.take() is first


def test_limits_of_version_2(tmp_path: Path, writes: dict[str, str]) -> None:
    groups = Cgroups("runtime-0", delegated(tmp_path / "own"))
    group = groups.take()
    folder = Path(group.entrances[0]).parent
    for name in ("memory.swap.max", "memory.oom.group"):
        (folder / name).touch()
    groups.limit(group, LIMITS)
    assert writes["sandbox-1/memory.max"] == str(1_769 << 20) and writes["sandbox-1/pids.max"] == "64"
    assert writes["sandbox-1/memory.swap.max"] == "0" and writes["sandbox-1/memory.oom.group"] == "1"
    assert writes["sandbox-1/cpu.weight"] == "100" and writes["sandbox-1/cpu.max"] == "max 100000"
    groups.limit(group, Limits(memory_mb=128, processes=64, has_quota=True))
    assert writes["sandbox-1/cpu.max"] == "7235 100000" and writes["sandbox-1/cpu.weight"] == "7"


def test_limits_that_stand_are_not_written_again(tmp_path: Path, writes: dict[str, str]) -> None:
    groups = Cgroups("runtime-0", delegated(tmp_path / "own"))
    group = groups.take()
    groups.limit(group, LIMITS)
    writes.clear()
    groups.limit(group, LIMITS)
    assert not writes
    groups.limit(group, Limits(memory_mb=256, processes=64, has_quota=False))
    assert writes["sandbox-1/memory.max"] == str(256 << 20)


def test_a_kill_for_memory_is_seen_since_the_limit(tmp_path: Path, writes: dict[str, str]) -> None:
    groups = Cgroups("runtime-0", delegated(tmp_path / "own"))
    group = groups.take()
    events = Path(group.entrances[0]).parent / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 3\n")
    # Of who was in it before.
    assert groups.was_out_of_memory(group)
    groups.limit(group, LIMITS)
    assert not groups.was_out_of_memory(group)
    events.write_text("low 0\noom 4\noom_kill 4\n")
    assert groups.was_out_of_memory(group)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no memory and no pids controller" in Cgroups("runtime-0", delegated(tmp_path / "poor", "cpu io")).missing
    assert "No such file" in Cgroups("runtime-0", str(tmp_path / "nowhere")).missing

    def refuse(path: Path, text: str) -> None:
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(cgroups, "_write", refuse)
    assert "sandbox.cgroup" in Cgroups("runtime-0", delegated(tmp_path / "busy")).missing


def test_what_a_killed_host_left_is_removed(tmp_path: Path, writes: dict[str, str]) -> None:
    own = delegated(tmp_path / "own")
    left = tmp_path / "own" / f"{cgroups.PREFIX}runtime-9-{2**22 + 1}"
    (left / "sandbox-1").mkdir(parents=True)
    groups = Cgroups("runtime-0", own)
    assert not left.exists()
    groups.take()
    groups.close()
    assert not list((tmp_path / "own").glob(f"{cgroups.PREFIX}*"))
