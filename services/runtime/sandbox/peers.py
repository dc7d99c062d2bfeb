"""Whose a connection on 127.0.0.1 is: only processes of this sandbox may use its Runtime API.

Where all sandboxes of a machine share one network, any of them could connect to any port. The kernel tells a
connection's uid and inode, and /proc tells which process has that inode open.
"""

import os
import socket
import sys

MAX_PROCESSES_LOOKED_AT = 4_096
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


# This module is loaded by the prepared parent: its namespaces are the host's.
_OF_HOST = {kind: _namespace(kind) for kind in ("net", "pid")}


def _has_own(kind: str) -> bool:
    found = _namespace(kind)
    return bool(found) and found != _OF_HOST[kind]


def has_own_network() -> bool:
    """Whether this process is in another network than the host: then all that can connect is of this sandbox."""
    return _has_own("net")


def is_of_this_sandbox(connection: socket.socket, has_own_uid: bool) -> bool:
    """Whether the other end is open in a process of this sandbox; with a uid of its own the uid says that already."""
    try:
        entry = _entry_of(connection.getpeername(), connection.getsockname())
    except OSError:
        return False
    if entry is None:
        return False
    uid, inode = entry
    if uid != os.getuid():
        return False
    return has_own_uid or _has_open(f"socket:[{inode}]")


def _entry_of(peer: "tuple[str, int]", own: "tuple[str, int]") -> "tuple[int, str] | None":
    """Uid and inode of the other end; None: it is closed already."""
    local, remote = _as_in_table(peer), _as_in_table(own)
    for path in _TABLES:
        try:
            with open(path) as table:
                for line in table:
                    # The first fields are: number, local address, remote address. An IPv6 socket of an IPv4
                    # connection has the same end after its prefix.
                    fields = line.split(None, 3)
                    if len(fields) == 4 and fields[1].endswith(local) and fields[2].endswith(remote):
                        _, _, _, _, uid, _, inode = fields[3].split()[:7]
                        return int(uid), inode
        except (FileNotFoundError, ValueError):
            continue
    return None


def _as_in_table(address: "tuple[str, int]") -> str:
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def _has_open(link: str) -> bool:
    if _has_own("pid"):
        # Orphans are the namespace's init's, but /proc shows this sandbox's processes and no others.
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        return any(_process_has_open(link, pid) for pid in pids[:MAX_PROCESSES_LOOKED_AT])
    # Orphans are this process's, a subreaper.
    left, looked_at = _children_of(os.getpid()), 0
    while left and looked_at < MAX_PROCESSES_LOOKED_AT:
        pid = left.pop()
        looked_at += 1
        if _process_has_open(link, pid):
            return True
        left += _children_of(pid)
    return False


def _process_has_open(link: str, pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") == link:
                return True
        except OSError:
            continue
    return False


def _children_of(pid: int) -> "list[int]":
    """Of every thread: a process's children stand under the thread that made them."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(text) for text in file.read().split()]
    except OSError:
        pass
    return found
