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
INIT_PROGRAMS = ("/usr/bin/sleep", "/bin/sleep")
INIT_SECONDS = "2147483647"
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


def take_mounts_along(uid: int) -> None:
    """Go on, with copies of the mounts, in a user namespace that knows this user only; by root. OSError: refused.

    This process has every capability there, and none outside of it.
    """
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    me = os.getpid()
    # Who is in the namespace may not say who its users are.
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(ready_write)
            if os.read(ready_read, 1):
                for name in ("uid_map", "gid_map"):
                    with open(f"/proc/{me}/{name}", "w") as file:
                        file.write(f"{uid} {uid} 1")
                status = 0
        finally:
            os._exit(status)
    try:
        linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
        os.write(ready_write, b"1")
    finally:
        os.close(ready_write)
        os.close(ready_read)
        _, status = os.waitpid(pid, 0)
    if status:
        raise PermissionError(1, "the users of a user namespace cannot be told")


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

    def fork(self) -> "tuple[int, int]":
        """fork(2) into a fresh one: pids of the child and of its init; 0, 0 in the child. OSError: refused."""
        linux.unshare(linux.CLONE_NEWPID)
        pid = init_pid = -1
        try:
            init_pid = _start_init()
            pid = os.fork()
        finally:
            if pid:
                linux.setns(self._own_fd, linux.CLONE_NEWPID)
                if pid < 0 < init_pid:
                    os.kill(init_pid, signal.SIGKILL)
        return pid, init_pid if pid else 0


def enter_pid_namespace_in_a_fork() -> None:
    """Go on in a PID namespace; for who may not come back from one as `PidNamespaces` does. OSError: refused.

    This process stays behind, with no descriptor open, and ends as the other one ends, when all inside have ended.
    """
    linux.unshare(linux.CLONE_NEWPID)
    init_pid = _start_init()
    pid = os.fork()
    if pid == 0:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    status = 0
    try:
        # What is milder than SIGKILL is for those inside.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        _, status = os.waitpid(pid, 0)
        os.kill(init_pid, signal.SIGKILL)
        os.waitpid(init_pid, 0)
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) != signal.SIGKILL:
                signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
            os.kill(os.getpid(), os.WTERMSIG(status))
    finally:
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _start_init() -> int:
    """The first process of the namespace: it adopts orphans, and all others die with it.

    Not the handler's own process, which could then be ended by few signals and would have to reap. This one ignores its
    children's ends, so that the kernel reaps them, and is a program of its own: it costs 0.1 MB, a fork of this
    interpreter ten times that.
    """
    program = next((path for path in INIT_PROGRAMS if os.access(path, os.X_OK)), None)
    if program is None:
        raise FileNotFoundError(2, "there is no program to be the init of a PID namespace", INIT_PROGRAMS[0])
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            linux.bar_capabilities()
            linux.drop_capabilities()
            os.closerange(0, os.sysconf("SC_OPEN_MAX"))
            os.execve(program, ["sleep", INIT_SECONDS], {})
        finally:
            os._exit(1)
    return pid
