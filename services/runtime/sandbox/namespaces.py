"""Namespaces of its own for a sandbox. Root enters them by right; another user inside a user namespace."""

import fcntl
import os
import signal
import socket
import struct

from . import linux

MOUNT, IPC, HOST_NAME, CGROUP, PID, NETWORK = "mount", "ipc", "uts", "cgroup", "pid", "net"
# In this order they are tried, told and entered.
ALL = (MOUNT, IPC, HOST_NAME, CGROUP, PID, NETWORK)
SANDBOX_HOST_NAME = "sandbox"
# PID is entered by a fork: the parent asks for it before.
_FLAGS = {
    MOUNT: linux.CLONE_NEWNS,
    IPC: linux.CLONE_NEWIPC,
    HOST_NAME: linux.CLONE_NEWUTS,
    CGROUP: linux.CLONE_NEWCGROUP,
    NETWORK: linux.CLONE_NEWNET,
}
# Which sandbox, and the status as wait(2) gives it.
STATUS = struct.Struct("=Qi")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_INTERFACE_REQUEST = "16sH14x"


def enter_user_namespace() -> None:
    """For a process without privileges: it stays who it is, and may make further namespaces. OSError: refused."""
    uid, gid = os.geteuid(), os.getegid()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
    linux.unshare(linux.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def enter(namespaces: "list[str]") -> None:
    """All of these but PID. OSError: refused."""
    flags = 0
    for name in namespaces:
        flags |= _FLAGS.get(name, 0)
    if flags:
        linux.unshare(flags)
    if MOUNT in namespaces:
        linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    if HOST_NAME in namespaces:
        linux.set_host_name(SANDBOX_HOST_NAME)
    if NETWORK in namespaces:
        _bring_loopback_up()


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack(_INTERFACE_REQUEST, b"lo", 0)
        _, flags = struct.unpack(_INTERFACE_REQUEST, fcntl.ioctl(probe, _SIOCGIFFLAGS, request))
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack(_INTERFACE_REQUEST, b"lo", flags | _IFF_UP))


class PidNamespaces:
    """Lets a process that stays in its own PID namespace fork into fresh ones; one with privileges outside of it."""

    def __init__(self) -> None:
        self._own_fd = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def fork(self) -> int:
        """fork(2); the child is the first process of a namespace of its own. OSError: refused."""
        linux.unshare(linux.CLONE_NEWPID)
        try:
            pid = os.fork()
        except BaseException:
            linux.setns(self._own_fd, linux.CLONE_NEWPID)
            raise
        if pid:
            linux.setns(self._own_fd, linux.CLONE_NEWPID)
        return pid


def enter_pid_namespace_in_a_fork() -> None:
    """Go on as the first process of a PID namespace; for who may not come back from one as `PidNamespaces` does.

    This process stays behind, with no descriptor open, and ends when the other one has ended. OSError: refused.
    """
    linux.unshare(linux.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    try:
        # What is milder than SIGKILL is for those inside.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        os.waitpid(pid, 0)
    finally:
        os._exit(0)


def leave_init_behind(status_fd: int, sandbox_id: int) -> None:
    """Go on in a fork; the first process of the PID namespace stays as an init that reaps, and ends with the fork.

    A handler that was the first process itself could not be ended by most signals, and would have to reap orphans.
    STATUS on status_fd: how the fork ended, as no process can give its own first process's end a signal.
    """
    main_pid = os.fork()
    if main_pid == 0:
        return
    try:
        if status_fd != 0:
            os.dup2(status_fd, 0)
        os.closerange(1, os.sysconf("SC_OPEN_MAX"))
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == main_pid:
                os.write(0, STATUS.pack(sandbox_id, status))
                return
    finally:
        os._exit(0)
