"""Attack 13: become more: users, setuid programs, capabilities, mounts, namespaces."""

import ctypes
import os
import select
import signal
import subprocess
import time
from typing import Any

from . import kernel, system
from .lib import Event, Tries, in_child, run, works

SETUID_PROGRAMS = ("/usr/bin/su", "/bin/su", "/usr/bin/newgrp", "/usr/bin/mount", "/bin/mount")
LOOK_SECONDS = 0.5
_PR_GET_NO_NEW_PRIVS = 39


def identity(event: Event, tries: Tries) -> None:
    """Another user or group."""
    own = os.getuid()
    for what, attempt, argument in (
        ("uid 0", os.setuid, 0),
        ("gid 0", os.setgid, 0),
        ("groups", os.setgroups, [0]),
        ("a neighbour's uid", os.setuid, own + 1),
    ):
        tries.take(what, in_child, works, attempt, argument)


def setuid_program(event: Event, tries: Tries) -> None:
    """A program of the system that runs as root for whoever starts it."""
    if os.geteuid() == 0 and event.get("is_control"):
        return tries.got("is root already")

    def attempt(program: str) -> object:
        ours, theirs = os.pipe()
        process = subprocess.Popen([program], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + LOOK_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                with open(f"/proc/{process.pid}/status") as file:
                    uids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
                if uids[1] == "0":
                    return f"effective uid of {program} is 0"
                select.select([], [], [], 0.005)
        finally:
            os.close(theirs)
            os.close(ours)
            process.kill()
            process.wait()
        return None

    for program in SETUID_PROGRAMS:
        tries.take(program, attempt, program)


def capabilities(event: Event, tries: Tries) -> None:
    """Any capability, or a program that could bring one."""
    with open("/proc/self/status") as file:
        fields = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        if int(fields[name], 16):
            tries.got(f"{name} {fields[name].strip()}")
    if system.libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        tries.got("no_new_privs is not set")


def mounts(event: Event, tries: Tries) -> None:
    """A mount of one's own, or another look at what is read-only."""
    target = os.path.join(os.environ.get("TMPDIR", "/tmp"), "ef-attack-mount")

    def tmpfs() -> bool:
        os.makedirs(target, exist_ok=True)
        system.call("mount", b"none", target.encode(), b"tmpfs", 0, None)
        system.call("umount2", target.encode(), 0)
        return True

    def remount() -> bool:
        code = os.environ.get("LAMBDA_TASK_ROOT", target).encode()
        system.call("mount", b"none", code, None, 32 | 4096, None)
        return True

    tries.take("tmpfs", in_child, tmpfs)
    tries.take("remount", in_child, remount)
    tries.take("fsopen", in_child, system.succeeds, "fsopen", b"tmpfs", 0)


def namespaces(event: Event, tries: Tries) -> None:
    """Namespaces of one's own, by unshare and clone3."""
    for name, flag in system.NAMES.items():
        tries.take(name, in_child, system.succeeds, "unshare", flag)
    tries.take("clone3", in_child, _clone3)


def _clone3() -> bool:
    fields = [0] * 11
    fields[0], fields[4] = system.NAMES["NEWUSER"], int(signal.SIGCHLD)
    arguments = (ctypes.c_uint64 * 11)(*fields)
    buffer = ctypes.create_string_buffer(bytes(arguments), 88)
    pid = system.call("clone3", buffer, 88)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return True


def nested(event: Event, tries: Tries) -> None:
    """Root in a user namespace of one's own, and a mount there."""

    def attempt() -> bool:
        uid = os.getuid()
        system.call("unshare", system.NAMES["NEWUSER"] | system.NAMES["NEWNS"])
        with open("/proc/self/uid_map", "w") as file:
            file.write(f"0 {uid} 1")
        system.call("mount", b"none", b"/tmp", b"tmpfs", 0, None)
        return True

    tries.take("a mount", in_child, attempt)


def entered(event: Event, tries: Tries) -> None:
    """Somebody else's namespaces."""

    def attempt(path: str) -> bool:
        fd = os.open(path, os.O_RDONLY)
        try:
            system.call("setns", fd, 0)
        finally:
            os.close(fd)
        return True

    for pid in (1, os.getppid(), *event["pids"].values()):
        for name in ("mnt", "net", "user", "uts"):
            path = f"/proc/{pid}/ns/{name}"
            if not _is_mine(path, name):
                tries.take(path, in_child, attempt, path)


def _is_mine(path: str, name: str) -> bool:
    """Entering the namespace that one is in already gives nothing."""
    try:
        return os.stat(path).st_ino == os.stat(f"/proc/self/ns/{name}").st_ino
    except OSError:
        return False


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Climbs."""
    return run(
        {
            "users": identity,
            "setuid programs": setuid_program,
            "capabilities": capabilities,
            "mounts": mounts,
            "namespaces": namespaces,
            "nested root": nested,
            "setns": entered,
            **kernel.VARIANTS,
        },
        event,
    )
