"""What no limit of the kernel bounds is seen by looking."""

import errno
import os
import subprocess
import sys
import threading
from dataclasses import replace
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


def test_what_lies_deeper_than_a_path_can_say_is_too_much(tmp_path: Path) -> None:
    """Nobody could tell how large it is."""
    name, before = "d" * 200, os.open(tmp_path, os.O_DIRECTORY)
    for _ in range(25):
        os.mkdir(name, dir_fd=before)
        deeper = os.open(name, os.O_DIRECTORY, dir_fd=before)
        os.close(before)
        before = deeper
    os.close(before)
    try:
        assert watch.over([watched(tmp_path)]) == [(7, watch.DISK)]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / name)], check=True)


def test_what_is_closed_to_who_looks_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was removed meanwhile is nothing."""

    def refuse(error: OSError) -> None:
        def scandir(_folder: str) -> None:
            raise error

        monkeypatch.setattr(os, "scandir", scandir)

    refuse(PermissionError(errno.EACCES, "closed"))
    assert watch.over([watched(tmp_path)]) == [(7, watch.DISK)]
    refuse(FileNotFoundError(errno.ENOENT, "gone"))
    assert watch.over([watched(tmp_path)]) == []


def test_the_kernel_says_how_much_memory_a_process_had() -> None:
    """At its peak, whatever it says itself; nothing of one that is gone."""
    before = watch.peak_rss_kb(os.getpid())
    assert before > 1_024
    held = os.urandom(1 << 20) * 64
    assert watch.peak_rss_kb(os.getpid()) >= before and len(held) == 1 << 26
    assert watch.peak_rss_kb(0) == 0


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


FORKS = """
import os, sys
held = bytearray(os.urandom(1 << 20)) * 48
for _ in range(3):
    if not os.fork():
        sys.stdin.read()
        os._exit(0)
print("up", flush=True)
sys.stdin.read()
"""


def test_memory_that_forks_have_in_common_counts_once(tmp_path: Path) -> None:
    """48 MiB and three forks of it are 48 MiB, not 192: nobody is ended for a moment between fork and exec."""
    process = subprocess.Popen([sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == b"up\n"
        bounds = replace(watched(tmp_path), pid=process.pid)
        assert watch.over([replace(bounds, max_memory_bytes=100 << 20)]) == []
        assert watch.over([replace(bounds, max_memory_bytes=40 << 20)]) == [(7, watch.MEMORY)]
    finally:
        process.stdin.close()
        process.wait()


def test_a_sandbox_whose_pid_is_not_known_yet_has_nothing(tmp_path: Path) -> None:
    """Not the memory and processes of the whole machine."""
    unknown = replace(watched(tmp_path), pid=0, max_memory_bytes=1, max_processes=1)
    assert watch.over([unknown]) == []
    assert watch.over([replace(unknown, pid=os.getpid())]) != []
