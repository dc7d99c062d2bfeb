"""Attack 6: memory bombs. Success is four times the function's memory, touched and held at once; more is not taken."""

import ctypes
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from . import system
from .lib import Event, Tries, end_by_itself, keep, run
from .mark import MARK

CHUNK_BYTES = 16 * 1_048_576
# Less than a prepared parent has in memory.
PROGRAM_MB = 24
TIMES = 4
_CHUNK = b"\x01" * CHUNK_BYTES
# As much as the kernel gives; it has a bound of its own for that.
SOCKET_BYTES = 8 * 1_048_576
_IPC_PRIVATE, _IPC_RMID, _IPC_CREAT = 0, 0, 0o1000


def _fill(event: Event, tries: Tries, take: Callable[[], object]) -> None:
    wanted = event["memory_mb"] * 1_048_576 * TIMES
    held = []
    taken = 0
    while taken < wanted:
        held.append(take())
        taken += CHUNK_BYTES
    keep(event)
    tries.got(f"{taken >> 20} MB")


def heap(event: Event, tries: Tries) -> None:
    """Private memory of one process."""

    def take() -> object:
        space = mmap.mmap(-1, CHUNK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        space.write(_CHUNK)
        return space

    _fill(event, tries, take)


def shared(event: Event, tries: Tries) -> None:
    """Shared anonymous memory."""

    def take() -> object:
        space = mmap.mmap(-1, CHUNK_BYTES)
        space.write(_CHUNK)
        return space

    _fill(event, tries, take)


def tree(event: Event, tries: Tries) -> None:
    """A little less than the function's memory in each of several processes, all at once."""
    each = event["memory_mb"] * 1_048_576 * 3 // 4 // CHUNK_BYTES
    told_read, told_write = os.pipe()
    stay_read, stay_write = os.pipe()
    pids = []
    for _ in range(TIMES * 4 // 3 + 1):
        pid = os.fork()
        if pid == 0:
            os.close(stay_write)
            end_by_itself()
            try:
                held = [bytearray(_CHUNK) for _ in range(each)]
                os.write(told_write, b"1")
                os.close(told_write)
                os.read(stay_read, len(held))
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(told_write)
    told = b""
    while len(told) < len(pids):
        part = os.read(told_read, len(pids))
        if not part:
            break
        told += part
    os.close(stay_write)
    for pid in pids:
        os.waitpid(pid, 0)
    if len(told) == len(pids):
        tries.got(f"{len(told) * each * CHUNK_BYTES >> 20} MB in {len(told)} processes")
    else:
        tries.refuse(f"{len(pids) - len(told)} of {len(pids)} were killed or refused")


def programs(event: Event, tries: Tries) -> None:
    """As many programs as it takes, each a little one of its own, none a fork of what is shared."""
    wanted = event["memory_mb"] * TIMES
    code = f"import sys; held = b'1' * ({PROGRAM_MB} << 20); print('up', flush=True); sys.stdin.read()"
    started = []
    try:
        for _ in range(-(-wanted // PROGRAM_MB)):
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, MARK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            started.append(process)
        up = sum(process.stdout is not None and process.stdout.readline() == b"up\n" for process in started)
        keep(event)
        alive = sum(process.poll() is None for process in started)
        if min(up, alive) * PROGRAM_MB >= wanted:
            tries.got(f"{alive * PROGRAM_MB} MB in {alive} programs")
        else:
            tries.refuse(f"{up} of {len(started)} began, {alive} lasted")
    finally:
        for process in started:
            process.kill()
            process.wait()


def socket_buffers(event: Event, tries: Tries) -> None:
    """The kernel's own memory: sockets that are full and never read."""
    wanted = event["memory_mb"] * 1_048_576 * TIMES
    held: list[socket.socket] = []
    filled = 0
    try:
        while filled < wanted:
            pair = socket.socketpair()
            held += pair
            for one in pair:
                filled += _fill_socket(one, wanted - filled)
        keep(event)
        tries.got(f"{filled >> 20} MB in {len(held)} sockets")
    finally:
        for one in held:
            one.close()


def _fill_socket(one: socket.socket, most: int) -> int:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
    one.setblocking(False)
    filled = 0
    try:
        while filled < most:
            filled += one.send(_CHUNK)
    except BlockingIOError:
        return filled
    return filled


def _file(event: Event, tries: Tries, fd: int) -> None:
    _fill(event, tries, lambda: _write_all(fd))


def _write_all(fd: int) -> None:
    view = memoryview(_CHUNK)
    while view:
        view = view[os.write(fd, view) :]


def shm(event: Event, tries: Tries) -> None:
    """A file in /dev/shm."""
    path = f"/dev/shm/ef-attack-{os.getpid()}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.unlink(path)
    try:
        _file(event, tries, fd)
    finally:
        os.close(fd)


def memfd(event: Event, tries: Tries) -> None:
    """A file that has no name."""
    fd = os.memfd_create("ef-attack")
    try:
        _file(event, tries, fd)
    finally:
        os.close(fd)


def system_v(event: Event, tries: Tries) -> None:
    """System V shared memory, which outlives its maker."""
    libc = system.libc
    libc.shmat.restype = ctypes.c_void_p
    libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
    ids = []

    def take() -> object:
        number = libc.shmget(_IPC_PRIVATE, CHUNK_BYTES, _IPC_CREAT | 0o600)
        if number < 0:
            raise OSError(ctypes.get_errno(), "shmget")
        ids.append(number)
        address = libc.shmat(number, None, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), "shmat")
        # Gone with its last user.
        libc.shmctl(number, _IPC_RMID, None)
        ctypes.memmove(address, _CHUNK, CHUNK_BYTES)
        return address

    try:
        _fill(event, tries, take)
    finally:
        for number in ids:
            libc.shmctl(number, _IPC_RMID, None)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Takes memory."""
    return run(
        {
            "heap": heap,
            "shared": shared,
            "tree": tree,
            "/dev/shm": shm,
            "memfd": memfd,
            "System V": system_v,
            "many programs": programs,
            "socket buffers": socket_buffers,
        },
        event,
    )
