"""SnapStart's pure parts: who may have it, hooks in order, what must differ afterwards, what a template may claim."""

import dataclasses
import os
import random
import sys
import tempfile
import types
import uuid
from pathlib import Path
from typing import Any

import pytest

from services.runtime import group_end, log_lines
from services.runtime.census import Census
from services.runtime.fork_tmps import ForkTmps
from services.runtime.sandbox import failures, hooks, snapshot
from services.runtime.seats import Seat
from services.runtime.snapshots import missing_for
from services.runtime.tiers import HOST_NETWORK, Isolation

ALL = Isolation(
    tier="c",
    namespaces=("mount", "ipc", "uts", "pid"),
    by_user_namespace=False,
    has_uid=True,
    has_cgroup=True,
    landlock=6,
    has_seccomp=True,
    network=HOST_NETWORK,
)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"has_uid": False}, "a user for each sandbox"),
        ({"has_cgroup": False}, "cgroups"),
        ({"namespaces": ("mount", "ipc", "uts")}, "PID namespaces"),
        ({"namespaces": ("ipc", "uts", "pid")}, "mount namespaces"),
        ({"by_user_namespace": True}, "root"),
        ({"has_seccomp": False}, "seccomp"),
        ({"landlock": 0}, "Landlock"),
    ],
)
def test_a_host_says_what_it_lacks(change: dict[str, Any], word: str) -> None:
    """Empty where it lacks nothing."""
    missing = missing_for(dataclasses.replace(ALL, **change))
    assert (word in missing and bool(word)) or missing == ""
    assert bool(missing) == bool(change)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """The registries of the public package, for this test."""
    before: list[Any] = []
    after: list[Any] = []
    package = types.ModuleType(hooks.PACKAGE)
    package.get_before_snapshot = lambda: before  # type: ignore[attr-defined]
    package.get_after_restore = lambda: after  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, hooks.PACKAGE, package)
    return before, after


def test_hooks_run_in_the_order_that_aws_runs_them(registry: tuple[list[Any], list[Any]]) -> None:
    """With their arguments; before: the last one first."""
    before, after = registry
    seen: list[Any] = []
    for hooked in (before, after):
        hooked += [(seen.append, (1,), {}), (lambda *, value: seen.append(value), (), {"value": 2})]
    hooks.run_before_snapshot()
    hooks.run_after_restore()
    assert seen == [2, 1, 1, 2]


def test_the_public_package_keeps_what_is_read_here() -> None:
    """Its registries have the shape that this code relies on."""
    package = __import__(hooks.PACKAGE)

    def hook() -> None:
        """Never called."""

    package.register_before_snapshot(hook, 1, named=2)
    package.register_after_restore(hook)
    try:
        assert package.get_before_snapshot()[-1] == (hook, (1,), {"named": 2})
        assert package.get_after_restore()[-1] == (hook, (), {})
    finally:
        package.get_before_snapshot().pop()
        package.get_after_restore().pop()


def test_a_hook_that_fails_has_the_name_that_aws_gives_it(registry: tuple[list[Any], list[Any]]) -> None:
    """The exception's own type and text are in the message; later hooks do not run."""
    before, after = registry
    seen: list[int] = []
    after += [(lambda: 1 / 0, (), {}), (seen.append, (1,), {})]
    before += [(seen.append, (2,), {}), (lambda: int("x"), (), {})]
    with pytest.raises(failures.Fault) as raised:
        hooks.run_after_restore()
    assert raised.value.error_type == "Runtime.AfterRestoreError"
    assert raised.value.message == "ZeroDivisionError: division by zero"
    with pytest.raises(failures.Fault) as raised:
        hooks.run_before_snapshot()
    assert raised.value.error_type == "Runtime.BeforeSnapshotError" and seen == []


def test_what_was_drawn_before_is_not_drawn_again() -> None:
    """Generators that are copied with the process go different ways."""
    state = random.getstate()
    sequence = tempfile._get_candidate_names()  # type: ignore[attr-defined]
    kept = uuid._generate_time_safe, uuid._last_timestamp  # type: ignore[attr-defined]
    first = random.random()
    try:
        random.setstate(state)
        hooks.refresh_randomness()
        assert random.random() != first
        assert tempfile._get_candidate_names() is not sequence  # type: ignore[attr-defined]
        assert len({uuid.uuid1() for _ in range(100)}) == 100
    finally:
        uuid._generate_time_safe, uuid._last_timestamp = kept  # type: ignore[attr-defined]


def test_numpy_is_seeded_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its global generator is not Python's."""
    seeds: list[int] = []
    module = types.ModuleType("numpy.random")
    module.seed = seeds.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy.random", module)
    hooks.refresh_randomness()
    hooks.refresh_randomness()
    assert len(set(seeds)) == 2 and all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("status", "is_plausible"),
    [(-1, True), (0, True), (9, True), (3 << 8, True), (0x137F, False), (0xFFFF, False), (1 << 16, False), (-2, False)],
)
def test_a_template_can_only_claim_ends_that_exist(status: int, is_plausible: bool) -> None:
    """Ended by itself or by a signal: not stopped, not continued, not out of bounds."""
    assert snapshot.is_plausible(status) is is_plausible


def test_the_tmp_of_a_fork_is_emptied_and_stays_the_same_folder(tmp_path: Path) -> None:
    """Landlock's rules are about the folder itself; nothing of who had it is left, and no more than there are."""
    folder = tmp_path / "7"
    folder.mkdir()
    tmps = ForkTmps(Seat(7, None, str(folder)), 2)
    seats = [tmps.take(), tmps.take()]
    assert tmps.take() is None
    first = seats[0]
    assert first is not None and first.number == 7
    inode = os.stat(first.tmp_dir).st_ino
    inside = Path(first.tmp_dir)
    (inside / "deep" / "er").mkdir(parents=True)
    (inside / "deep" / "file").write_text("x")
    (inside / "away").symlink_to(tmp_path)
    inside.chmod(0o777)
    tmps.give_back(first.tmp_dir)
    again = tmps.take()
    assert again == first and os.listdir(inside) == []
    assert os.stat(inside).st_ino == inode and os.stat(inside).st_mode & 0o777 == 0o700
    assert folder.exists()
    tmps.remove()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_template_counts_by_its_memory() -> None:
    """From its beginning until it is gone; on its way out it is room that comes."""
    census = Census()
    census.template_begun(128)
    assert (census.memory_mb, census.templates_mb, census.count, census.starting) == (128, 128, 0, 0)
    census.template_ends(128)
    assert census.ending_mb == 128
    census.template_gone(128)
    assert (census.memory_mb, census.templates_mb, census.ending_mb) == (0, 0, 0)


def test_a_restored_sandbox_reports_a_restore() -> None:
    """AWS's words, and what is billed for it."""
    lines = log_lines.end_and_report("r", 1_500, 2, 128, 40, 12_340, is_restored=True).decode()
    assert "\tRestore Duration: 12.34 ms\tBilled Restore Duration: 13 ms\t" in lines and "Init" not in lines
    assert "Restore" not in log_lines.end_and_report("r", 1_500, 2, 128, 40, 0, is_restored=True).decode()
    assert log_lines.restore_report(12_340) == b"RESTORE_REPORT Restore Duration: 12.34 ms\n"
    assert log_lines.billed_restore_ms_of(12_340, True) == 13
    assert log_lines.billed_restore_ms_of(12_340, False) == log_lines.billed_restore_ms_of(0, True) == 0


def test_limits_stand_again_after_a_group_was_ended(tmp_path: Path) -> None:
    """Who writes limits does not write again what it wrote before."""
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "pids.max").write_text("40\n")
    assert group_end.end([str(tmp_path / "cgroup.procs")])
    assert (tmp_path / "pids.max").read_text() == "40\n"
