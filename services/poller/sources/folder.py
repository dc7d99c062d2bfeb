"""A bucket's folder: walking it, and opening one file. Blocking code, for threads; symbolic links are not followed."""

import errno
import fcntl
import hashlib
import itertools
import os
import signal
import stat
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from services.policy.s3_events import ObjectVersion, check_key, is_hidden

HASH_CHUNK_BYTES = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# NONBLOCK: a named pipe must not hold the opener.
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


class Halted(Exception):
    """The process stops: whoever reads a large file gives up."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file under its key, open for reading; `arrived_ns`: when it got its name or its last byte."""

    version: ObjectVersion
    arrived_ns: int
    fd: int


def open_beneath(root: str, path: str, flags: int) -> int:
    """A descriptor of what lies at this path below the root, with no symbolic link on the way. OSError."""
    fd = os.open(root, _DIRECTORY)
    *parents, name = path.split("/")
    try:
        for part in parents:
            inner = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=fd)
    finally:
        os.close(fd)


def open_object(root: str, path: str) -> OpenFile | None:
    """The regular file at this path, to be closed by the caller; None: there is none (any more). OSError."""
    try:
        fd = open_beneath(root, path, _FILE)
    except OSError as e:
        if e.errno in _ABSENT:
            return None
        raise
    try:
        status = os.fstat(fd)
        if not _is_regular(status):
            os.close(fd)
            return None
        return OpenFile(_version(path, status), status.st_ctime_ns, fd)
    except BaseException:
        os.close(fd)
        raise


def has_writer(fd: int) -> bool | None:
    """Whether anybody has the file open for writing; None: the kernel does not say.

    A read lease is given only on a file that nobody writes. It is given back at once: an opener in between waits for
    some microseconds. Not told: files of others without CAP_LEASE, and file systems without leases.
    """
    try:
        # An opener in that moment makes the kernel send a signal; the usual one, SIGIO, would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as e:
        return True if e.errno == errno.EAGAIN else None
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def md5_of(fd: int, halt: threading.Event) -> str:
    """MD5 of the file's content in hexadecimal, S3's eTag. Halted; OSError."""
    digest = hashlib.md5(usedforsecurity=False)
    offset = 0
    while chunk := os.pread(fd, HASH_CHUNK_BYTES, offset):
        if halt.is_set():
            raise Halted
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def is_unchanged(file: OpenFile) -> bool:
    """Whether the open file still is what it was when it was opened. OSError."""
    return _version(file.version.key, os.fstat(file.fd)) == file.version


class Walk:
    """Goes through a folder's files; what it could not see is counted, and makes the walk incomplete."""

    def __init__(self, root: str, start: str, enter: Callable[[str, int], None], max_files: int) -> None:
        """`start`: path below the root, empty for all. `enter`: told each folder (path, inode) before it is read."""
        self._root = root
        self._enter = enter
        self._max_files = max_files
        self._folders = [start]
        self._objects = self._go()
        self.files = 0
        self.unusable = 0
        self.is_truncated = False
        self.problem: OSError | None = None

    def next_slice(self, count: int) -> list[ObjectVersion]:
        """At most so many objects; fewer: that was all. OSError: the root cannot be read."""
        return list(itertools.islice(self._objects, count))

    def close(self) -> None:
        """Give up before the end."""
        try:
            self._objects.close()
        except ValueError:
            # A thread that nobody waits for any more is in it; it ends with its slice.
            pass

    def _go(self) -> Generator[ObjectVersion, None, None]:
        while self._folders:
            folder = self._folders.pop()
            try:
                fd = open_beneath(self._root, folder, _DIRECTORY) if folder else os.open(self._root, _DIRECTORY)
            except OSError as e:
                self._passed_over(folder, e)
                continue
            try:
                # First the watch, then the list: what comes in between is seen twice, never missed.
                self._enter(folder, os.fstat(fd).st_ino)
                with os.scandir(fd) as entries:
                    for entry in entries:
                        version = self._take(f"{folder}/{entry.name}" if folder else entry.name, entry)
                        if self.is_truncated:
                            return
                        if version is not None:
                            yield version
            except OSError as e:
                self._passed_over(folder, e)
            finally:
                os.close(fd)

    def _take(self, path: str, entry: "os.DirEntry[str]") -> ObjectVersion | None:
        if is_hidden(entry.name):
            return None
        try:
            check_key(path)
        except ValueError:
            self.unusable += 1
            return None
        if entry.is_dir(follow_symlinks=False):
            self._folders.append(path)
        elif entry.is_file(follow_symlinks=False):
            if self.files >= self._max_files:
                self.is_truncated = True
                return None
            self.files += 1
            try:
                return _version(path, entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                return None
        return None

    def _passed_over(self, folder: str, error: OSError) -> None:
        if not folder:
            raise error
        if error.errno not in _ABSENT:
            self.problem = error


def _is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def _version(path: str, status: os.stat_result) -> ObjectVersion:
    return ObjectVersion(path, status.st_ino, status.st_mtime_ns, status.st_size)
