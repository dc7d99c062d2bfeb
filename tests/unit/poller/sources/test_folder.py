"""Walking a folder and opening its files: what is there, and never what is elsewhere."""

import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest

from services.poller.sources import folder
from services.poller.sources.folder import Halted, Walk, has_writer, md5_of, open_beneath, open_object


@pytest.fixture
def bucket(run_dir: Path) -> Path:
    path = run_dir / "bucket"
    path.mkdir()
    return path


def walked(root: Path, start: str = "", max_files: int = 1_000, count: int = 3) -> tuple[list[str], Walk, list[str]]:
    entered: list[str] = []
    walk = Walk(str(root), start, lambda path, inode: entered.append(path), max_files)
    keys: list[str] = []
    while part := walk.next_slice(count):
        keys += [version.key for version in part]
    return sorted(keys), walk, entered


def put(root: Path, key: str, content: str = "x") -> Path:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_walk_finds_every_object_in_slices(bucket: Path) -> None:
    """Nested files are found, each folder is told before; hidden ones are not."""
    keys = ["a", "b/c", "b/d/e", "b/d/f", "g h/ü"]
    for key in [*keys, ".hidden", "b/.hidden/x"]:
        put(bucket, key)
    found, walk, entered = walked(bucket)
    assert found == keys
    assert sorted(entered) == ["", "b", "b/d", "g h"]
    assert (walk.files, walk.unusable, walk.is_truncated, walk.problem) == (5, 0, False, None)
    assert walked(bucket, "b/d")[0] == ["b/d/e", "b/d/f"]


def test_a_walk_has_a_bound(bucket: Path) -> None:
    """It ends after so many files and says that there are more; exactly so many are not more."""
    for n in range(5):
        put(bucket, f"{n}")
    found, walk, _ = walked(bucket, max_files=4)
    assert (len(found), walk.is_truncated) == (4, True)
    found, walk, _ = walked(bucket, max_files=5)
    assert (len(found), walk.is_truncated) == (5, False)


def test_a_walk_that_is_given_up_leaves_no_descriptor(bucket: Path) -> None:
    """Closing in the middle closes the folder."""
    for n in range(10):
        put(bucket, f"{n}")
    before = len(os.listdir("/proc/self/fd"))
    walk = Walk(str(bucket), "", lambda path, inode: None, 100)
    assert len(walk.next_slice(2)) == 2
    walk.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_root_is_an_error_and_a_missing_folder_is_not(bucket: Path) -> None:
    """A folder that went away while it was to be scanned has no objects; a bucket without folder is to be told."""
    assert walked(bucket, "gone")[0] == []
    bucket.rmdir()
    with pytest.raises(FileNotFoundError):
        walked(bucket)


def test_nothing_is_opened_through_a_symbolic_link(run_dir: Path, bucket: Path) -> None:
    """Neither the file itself nor a folder on the way may be a link."""
    outside = put(run_dir, "outside/secret")
    os.symlink(outside, bucket / "file")
    os.symlink(outside.parent, bucket / "folder")
    assert open_object(str(bucket), "file") is None
    assert open_object(str(bucket), "folder/secret") is None
    assert walked(bucket)[0] == []
    with pytest.raises(OSError):
        open_beneath(str(bucket), "folder/secret", os.O_RDONLY)


def test_only_regular_files_are_objects(bucket: Path) -> None:
    """Folders, pipes and what is not there are none; a pipe holds nobody up, and nothing stays open."""
    (bucket / "folder").mkdir()
    os.mkfifo(bucket / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    assert [open_object(str(bucket), key) for key in ("folder", "pipe", "missing", "missing/x")] == [None] * 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_kernel_tells_who_writes(bucket: Path) -> None:
    """A writer is seen until his close; readers do not matter; the writer can open again while we hold the file."""
    path = put(bucket, "a")
    file = open_object(str(bucket), "a")
    assert file is not None
    with open(path):
        assert has_writer(file.fd) is False
    with open(path, "a"):
        assert has_writer(file.fd) is True
    assert has_writer(file.fd) is False
    with open(path, "w") as again:
        again.write("not held up")
    os.close(file.fd)


def test_a_writer_that_comes_in_the_very_moment_does_no_harm(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel then signals the holder of the lease: the process lives on, and the writer gets in right after."""
    path = put(bucket, "a")
    file = open_object(str(bucket), "a")
    assert file is not None
    real = fcntl.fcntl

    def meddle(fd: int, command: int, argument: int) -> int:
        answer = real(fd, command, argument)
        if (command, argument) == (fcntl.F_SETLEASE, fcntl.F_RDLCK):
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        return answer

    monkeypatch.setattr("services.poller.sources.folder.fcntl.fcntl", meddle)
    assert has_writer(file.fd) is False
    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    os.close(file.fd)


def test_a_kernel_that_does_not_tell_is_no_answer(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission for leases, or a file system without them: nothing is claimed."""
    put(bucket, "a")
    file = open_object(str(bucket), "a")
    assert file is not None

    def refuse(*_: object) -> None:
        raise PermissionError(13, "no leases for you")

    monkeypatch.setattr("services.poller.sources.folder.fcntl.fcntl", refuse)
    assert has_writer(file.fd) is None
    os.close(file.fd)


def test_a_large_file_is_hashed_in_chunks_and_can_be_given_up(bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MD5 is of every byte; when the process ends the reading does too."""
    monkeypatch.setattr(folder, "HASH_CHUNK_BYTES", 1_000)
    content = os.urandom(10_500)
    (bucket / "a").write_bytes(content)
    file = open_object(str(bucket), "a")
    assert file is not None
    halt = threading.Event()
    assert md5_of(file.fd, halt) == hashlib.md5(content).hexdigest()
    halt.set()
    with pytest.raises(Halted):
        md5_of(file.fd, halt)
    os.close(file.fd)
