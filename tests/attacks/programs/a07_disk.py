"""Attack 7: fill the disk: bytes, files, a file with holes, folders that are hard to remove."""

import contextlib
import os
from typing import Any

from . import unseen
from .lib import Event, Tries, keep, run

BLOCK = b"\x01" * 1_048_576
TIMES = 4
FILES_IN_FOLDER = 1_000
SPARSE_BYTES = 1 << 42
DEEP_FOLDERS = 1_500
LOCKED_NAME = "locked"


def _folder(name: str) -> str:
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"ef-attack-{name}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    return folder


def one_file(event: Event, tries: Tries) -> None:
    """One file of four times the limit."""
    _write(event, tries, 1)


def many_files(event: Event, tries: Tries) -> None:
    """The same in files that are each small enough."""
    _write(event, tries, 16)


def _write(event: Event, tries: Tries, files: int) -> None:
    folder = _folder("bytes")
    written = 0
    for number in range(files):
        with open(os.path.join(folder, str(number)), "wb", buffering=0) as file:
            for _ in range(event["tmp_mb"] * TIMES // files):
                written += file.write(BLOCK)
    # Kept for a while, so that whoever looks now and then sees it.
    keep(event)
    tries.got(f"{written >> 20} MB")


def inodes(event: Event, tries: Tries) -> None:
    """Empty files without end."""
    made = 0
    top = _folder("inodes")
    while made < event["files"]:
        folder = os.path.join(top, str(made))
        os.mkdir(folder)
        for number in range(FILES_IN_FOLDER):
            os.close(os.open(os.path.join(folder, str(number)), os.O_CREAT | os.O_WRONLY))
        made += FILES_IN_FOLDER
    # To look at so many takes its time.
    keep(event, 2)
    tries.got(f"{made} files")


def sparse(event: Event, tries: Tries) -> None:
    """A file of 4 TiB that takes no room until somebody copies it."""
    fd = os.open(os.path.join(_folder("sparse"), "file"), os.O_CREAT | os.O_WRONLY)
    try:
        os.ftruncate(fd, SPARSE_BYTES)
        tries.got(f"a file of {os.fstat(fd).st_size >> 40} TiB")
    finally:
        os.close(fd)


def reserved(event: Event, tries: Tries) -> None:
    """Blocks without writing them."""
    _reserve(event, tries, keeps=True)


def for_a_moment(event: Event, tries: Tries) -> None:
    """The same, and gone before anybody can look."""
    _reserve(event, tries, keeps=False)


def _reserve(event: Event, tries: Tries, *, keeps: bool) -> None:
    path = os.path.join(_folder("reserved"), "file")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, event["tmp_mb"] * TIMES * 1_048_576)
        if keeps:
            keep(event)
        tries.got(f"{os.fstat(fd).st_blocks * 512 >> 20} MB")
    finally:
        os.close(fd)
        os.unlink(path)


def hard_to_remove(event: Event, tries: Tries) -> None:
    """Folders deeper than a path can say, and closed ones: what is left of them, the harness sees."""
    here = os.getcwd()
    try:
        os.chdir(_folder("deep"))
        for _ in range(DEEP_FOLDERS):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    locked = os.path.join(_folder("closed"), LOCKED_NAME)
    with contextlib.suppress(FileExistsError):
        os.mkdir(locked)
    with open(os.path.join(locked, "file"), "w") as file:
        file.write("x")
    os.chmod(locked, 0)
    os.chmod(os.path.dirname(locked), 0o500)


def elsewhere(event: Event, tries: Tries) -> None:
    """A file outside /tmp that the whole machine sees; the harness looks for it there."""
    for folder in ("/dev/shm", "/var/tmp", "/run/lock", "/run", "/var/task", "/", "/mnt", "/opt", "/home", "/tmp/.."):
        tries.take(folder, _touch, os.path.join(folder, event["marker"]))
    tries.refused["made, for the harness to find: " + " ".join(tries.obtained)] = 1
    tries.obtained.clear()


def _touch(path: str) -> bool:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    return True


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Fills."""
    return run(
        {
            "one file": one_file,
            "many files": many_files,
            "inodes": inodes,
            "sparse": sparse,
            "reserved": reserved,
            "for a moment": for_a_moment,
            **unseen.VARIANTS,
            "hard to remove": hard_to_remove,
            "elsewhere": elsewhere,
        },
        event,
    )
