"""What this machine lets a sandbox have; each thing is tried for real, in a process that ends after it."""

import os
from collections.abc import Callable
from typing import Any

from . import child, identity, landlock, linux, namespaces, seccomp

# Without the fleet's own cgroup there is nothing to hide; where /proc cannot be mounted, no PID namespace.
_ATTEMPTS = (
    (namespaces.MOUNT, namespaces.IPC, namespaces.HOST_NAME, namespaces.CGROUP, namespaces.PID),
    (namespaces.MOUNT, namespaces.IPC, namespaces.HOST_NAME, namespaces.PID),
    (namespaces.MOUNT, namespaces.IPC, namespaces.HOST_NAME),
)


def probe(uid: int, needed: "list[str]", folder: str, cgroups: "list[str]") -> "dict[str, Any]":
    """What works here, as JSON's types.

    "namespaces": those that can be had, in `namespaces.ALL`'s order; "by_user_namespace": only inside one; "own_uid":
    `uid` can be taken on; "reads_python": it can then read the interpreter's folders `needed` without mounts;
    "landlock": version or 0; "seccomp"; "cgroups": the files given can be entered by.
    """
    by_user = os.geteuid() != 0
    found = _namespaces(folder, by_user)
    return {
        "namespaces": found,
        "by_user_namespace": by_user and bool(found),
        "own_uid": _works(lambda: identity.become(uid)),
        "reads_python": _works(lambda: _read_as(uid, needed)),
        "landlock": landlock.version(),
        "seccomp": seccomp.is_known(linux.machine()) and _works(_try_filter),
        "cgroups": bool(cgroups) and _works(lambda: _enter(cgroups)),
    }


def _namespaces(folder: str, by_user: bool) -> "list[str]":
    for attempt in _ATTEMPTS:
        if _works(lambda attempt=attempt: _try_view(list(attempt), folder, by_user)):  # type: ignore[misc]
            has_network = _works(lambda: _try_view([namespaces.NETWORK], folder, by_user))
            return [*attempt, *([namespaces.NETWORK] if has_network else [])]
    return []


def _try_view(wanted: "list[str]", folder: str, by_user: bool) -> None:
    if by_user:
        namespaces.enter_user_namespace()
    isolation = {
        "namespaces": wanted,
        "by_user_namespace": by_user,
        "hides": [],
        "needed": [],
        "folder": folder,
        "has_uid": False,
        "landlock": 0,
    }
    has_pids = namespaces.PID in wanted and not by_user
    pid = namespaces.PidNamespaces().fork()[0] if has_pids else os.fork()
    if pid == 0:
        status = 1
        try:
            child.Blank(child.Plan(isolation, b"", os.getppid())).shut_in([])
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if status:
        raise OSError("refused")


def _try_filter() -> None:
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    linux.load_seccomp_filter(seccomp.program(linux.machine(), has_network=True))


def _read_as(uid: int, needed: "list[str]") -> None:
    identity.become(uid)
    for path in needed:
        os.listdir(path)


def _enter(cgroups: "list[str]") -> None:
    for path in cgroups:
        with open(path, "w") as file:
            file.write("0")


def _works(attempt: "Callable[[], None]") -> bool:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            attempt()
            status = 0
        except BaseException:
            # The answer is the status; what was said on the way helps nobody.
            status = 1
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return status == 0
