"""Attack 3: take other processes over: ptrace, process_vm_readv, /proc/PID/mem, their descriptors."""

import ctypes
import os
import struct
from typing import Any

from . import system
from .lib import Event, Tries, foreign_pids, in_child, run

_ATTACH, _DETACH, _SEIZE = 16, 17, 0x4206
_PROBE_BYTES = 64
_secret_place = ctypes.create_string_buffer(b"where this lies, a fork of the same parent has something, too")


def _addresses(pid: int) -> "list[int]":
    """Where to read: what the maps say, else where this process has something, as forks of one parent look alike."""
    try:
        with open(f"/proc/{pid}/maps") as file:
            return [int(line.split("-")[0], 16) for line in file if " rw-p " in line][:4]
    except OSError:
        return [ctypes.addressof(_secret_place), id(os)]


def attach(event: Event, tries: Tries) -> None:
    """Stop it and be its debugger; let it go at once."""

    def attempt(pid: int, request: int) -> object:
        system.call("ptrace", request, pid, 0, 0)
        if request == _ATTACH:
            os.waitpid(pid, 0)
            system.call("ptrace", _DETACH, pid, 0, 0)
        return True

    for pid in foreign_pids(event):
        for request in (_SEIZE, _ATTACH):
            # The debugger's end lets go of whatever it holds.
            tries.take(f"pid {pid}", in_child, attempt, pid, request)


def read_memory(event: Event, tries: Tries) -> None:
    """process_vm_readv."""

    def attempt(pid: int, address: int) -> object:
        space = ctypes.create_string_buffer(_PROBE_BYTES)
        here = ctypes.create_string_buffer(struct.pack("NN", ctypes.addressof(space), _PROBE_BYTES))
        there = ctypes.create_string_buffer(struct.pack("NN", address, _PROBE_BYTES))
        return system.call("process_vm_readv", pid, here, 1, there, 1, 0)

    for pid in foreign_pids(event):
        for address in _addresses(pid):
            tries.take(f"pid {pid}", attempt, pid, address)


def open_memory(event: Event, tries: Tries) -> None:
    """/proc/PID/mem, to write to it."""

    def attempt(pid: int) -> object:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        try:
            return len(os.pread(fd, _PROBE_BYTES, _addresses(pid)[0]))
        finally:
            os.close(fd)

    for pid in foreign_pids(event):
        tries.take(f"pid {pid}", attempt, pid)


def descriptor(event: Event, tries: Tries) -> None:
    """A copy of a descriptor of it (pidfd_getfd)."""

    def attempt(pid: int, number: int) -> object:
        pidfd = os.pidfd_open(pid)
        try:
            os.close(system.call("pidfd_getfd", pidfd, number, 0))
            return f"descriptor {number}"
        finally:
            os.close(pidfd)

    for pid in foreign_pids(event):
        for number in (3, 4, 0):
            tries.take(f"pid {pid}", attempt, pid, number)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Tries every door into another process."""
    return run(
        {"attach": attach, "process_vm_readv": read_memory, "mem": open_memory, "pidfd_getfd": descriptor}, event
    )
