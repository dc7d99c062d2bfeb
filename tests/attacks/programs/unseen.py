"""Attack 7, past whoever counts what lies in /tmp: files without a name, too deep, behind a door, never still."""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from .lib import Event, Tries, end_by_itself, keep

BLOCK = b"\x01" * 1_048_576
TIMES = 4
# A path holds 4,096 bytes: so many folders with such names are beyond it.
DEEP_FOLDERS, LONG_NAME = 24, "d" * 200
BUSY_NAMES = 300
PARTS = 16


def _folder(name: str) -> str:
    folder = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"ef-attack-{name}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    return folder


def _fill(event: Event, tries: Tries, fds: "list[int]") -> None:
    written = 0
    for fd in fds:
        for _ in range(event["tmp_mb"] * TIMES // len(fds)):
            written += os.write(fd, BLOCK)
    keep(event)
    tries.got(f"{written >> 20} MB")


def without_a_name(event: Event, tries: Tries) -> None:
    """Files that are open and removed: they are in no folder."""
    path = os.path.join(_folder("nameless"), "file")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.unlink(path)
    try:
        _fill(event, tries, [fd])
    finally:
        os.close(fd)


def too_deep(event: Event, tries: Tries) -> None:
    """A file whose path is longer than a path may be."""
    here = os.getcwd()
    try:
        os.chdir(_folder("too-deep"))
        for _ in range(DEEP_FOLDERS):
            with contextlib.suppress(FileExistsError):
                os.mkdir(LONG_NAME)
            os.chdir(LONG_NAME)
        fd = os.open("file", os.O_WRONLY | os.O_CREAT)
        try:
            _fill(event, tries, [fd])
        finally:
            os.close(fd)
    finally:
        os.chdir(here)


def behind_a_door(event: Event, tries: Tries) -> None:
    """A folder that nobody but root may look into, not even who made it."""
    folder = _folder("closed-door")
    fd = os.open(os.path.join(folder, "file"), os.O_WRONLY | os.O_CREAT)
    os.chmod(folder, 0)
    try:
        _fill(event, tries, [fd])
    finally:
        os.chmod(folder, 0o700)
        os.close(fd)


def never_still(event: Event, tries: Tries) -> None:
    """A folder whose other files come and go all the time, so that a look at it trips."""
    folder = _folder("never-still")
    pid = os.fork()
    if pid == 0:
        end_by_itself()
        try:
            while True:
                _come_and_go(folder)
        finally:
            os._exit(0)
    names = [os.path.join(folder, f"part-{number}") for number in range(PARTS)]
    fds = [os.open(name, os.O_WRONLY | os.O_CREAT) for name in names]
    try:
        _fill(event, tries, fds)
    finally:
        for fd in fds:
            os.close(fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _come_and_go(folder: str) -> None:
    names = [os.path.join(folder, str(number)) for number in range(BUSY_NAMES)]
    for name in names:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT))
    for name in names:
        os.unlink(name)


VARIANTS: "dict[str, Callable[[Event, Tries], Any]]" = {
    "without a name": without_a_name,
    "too deep": too_deep,
    "behind a door": behind_a_door,
    "never still": never_still,
}
