"""What no limit of the kernel bounds is seen by looking."""

import os
import threading
from pathlib import Path

import pytest

from services.runtime import watch
from services.runtime.sandbox import strays
from services.runtime.watch import Watched


def watched(folder: Path, **changes: int) -> Watched:
    bounds = {"max_tmp_bytes": 1 << 20, "max_memory_bytes": 0, "max_processes": 0, "shared_bytes": 0, **changes}
    return Watched(number=7, pid=os.getpid(), tmp_dir=str(folder), **bounds)


def test_files_count_by_what_they_take_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/small").write_bytes(os.urandom(500_000))
    assert watch.over([watched(tmp_path)]) == []
    (tmp_path / "a/large").write_bytes(os.urandom(700_000))
    assert watch.over([watched(tmp_path)]) == [(7, watch.DISK)]


def test_a_sparse_file_takes_nothing_and_a_link_leads_nowhere(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "link").symlink_to("/usr")
    assert watch.over([watched(tmp_path)]) == []


def test_too_many_files_are_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_TMP_ENTRIES", 50)
    for number in range(51):
        (tmp_path / str(number)).touch()
    assert watch.over([watched(tmp_path)]) == [(7, watch.DISK)]


def test_memory_beyond_what_is_shared_counts(tmp_path: Path) -> None:
    own = watch.resident_bytes(os.getpid())
    assert own > 1 << 20
    assert watch.over([watched(tmp_path, max_memory_bytes=own // 2)]) == [(7, watch.MEMORY)]
    assert watch.over([watched(tmp_path, max_memory_bytes=own, shared_bytes=own // 2)]) == []


def test_processes_count_with_all_below_them_and_so_do_threads(tmp_path: Path) -> None:
    # Other tests may have left this process threads, and a child that is not reaped yet.
    there = sum(watch._threads_of(pid) for pid in (os.getpid(), *strays.descendants_of(os.getpid())))
    assert watch.over([watched(tmp_path, max_processes=there)]) == []
    pid = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
    try:
        assert watch.over([watched(tmp_path, max_processes=there)]) == [(7, watch.PROCESSES)]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert watch.over([watched(tmp_path, max_processes=there + 2)]) == [(7, watch.PROCESSES)]
        assert watch.over([watched(tmp_path, max_processes=there + 3)]) == []
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_what_is_gone_is_not_over(tmp_path: Path) -> None:
    gone = Watched(1, 2**22 + 1, str(tmp_path / "nothing"), 1, 1, 1, 0)
    assert watch.over([gone]) == []
