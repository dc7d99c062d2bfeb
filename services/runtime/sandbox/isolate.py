"""Shuts a fresh fork in: namespaces, mounts, identity, limits. Linux; through ctypes, as no code is built."""

import ctypes
import os
import resource
import signal
import stat
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
# Flags that a user namespace must keep when it mounts again: read-only, nosuid, nodev, noexec, noatime, relatime.
_KEPT_FLAGS = 1 | 2 | 4 | 8 | 1024 | 4096 << 9
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
TASK_ROOT = "/var/task"
LAYERS_ROOT = "/opt"
RUNTIME_ROOT = "/var/runtime"
MOUNT_ROOT = "/mnt"
SHARED_MEMORY_BYTES = 67_108_864
COVER_BYTES = 1_048_576

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, value: int) -> None:
    """prctl(2). OSError: refused."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def unshare(flags: int) -> None:
    """unshare(2). OSError: refused."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). OSError: refused."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {target}")


def enter_user_namespace(flags: int) -> None:
    """New namespaces for a process without privileges; it stays who it is in a user namespace of its own."""
    uid, gid = os.geteuid(), os.getegid()
    prctl(PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root
    unshare(CLONE_NEWUSER | flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def drop_capabilities() -> None:
    """Give up what a fresh user namespace granted."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def enter_namespaces(how: str) -> None:
    """Mount, IPC and host name namespaces of its own; `how` is "root" or "user"."""
    flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS
    if how == "user":
        enter_user_namespace(flags)
    else:
        unshare(flags)
    mount("none", "/", "", MS_REC | MS_PRIVATE)


class View:
    """Builds what a sandbox sees of the file system; sources are opened before anything is covered."""

    def __init__(self, sources: "list[str]") -> None:
        self._fds = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in sources}

    def bind(self, source: str, target: str, writable: bool) -> None:
        """Show `source` at `target`."""
        mount(f"/proc/self/fd/{self._fds[source]}", target, "", MS_BIND | MS_REC)
        flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | (os.statvfs(target).f_flag & _KEPT_FLAGS)
        mount("none", target, "", flags if writable else flags | MS_RDONLY)

    def close(self) -> None:
        """Let the sources go."""
        for fd in self._fds.values():
            os.close(fd)


def cover(target: str, mode: str = "0755", size_bytes: int = COVER_BYTES) -> None:
    """An empty folder in front of what is there."""
    mount("evenflow", target, "tmpfs", MS_NOSUID | MS_NODEV, f"mode={mode},size={size_bytes},nr_inodes=4096")


def build_view(request: "dict[str, Any]", needed: "list[str]") -> None:
    """Code at /var/task, a private /tmp, granted buckets at /mnt, the fleet's own folders gone.

    `needed`: folders of the interpreter, which must be readable for whom the sandbox runs as.
    """
    needed = [*needed, *request["reads"]]
    shown = {LAYERS_ROOT: request["layers"], RUNTIME_ROOT: request["runtime_dir"]}
    covers = [path for path in ("/var", MOUNT_ROOT) if os.path.isdir(path)]
    if request["uid"] is not None:
        covers += sorted({blocked for path in needed if (blocked := _blocked_by(path)) is not None})
    hidden = [path for path in needed if any(_is_within(path, c) for c in [*covers, "/tmp"])]
    buckets = [path for _, path, _ in request["buckets"]]
    sources = [path for path in shown.values() if path]
    view = View([*dict.fromkeys([request["code"], request["tmp"], *sources, *hidden, *buckets])])
    for path in covers:
        cover(path)
    view.bind(request["tmp"], "/tmp", writable=True)
    os.mkdir(TASK_ROOT)
    os.symlink("/tmp", "/var/tmp")
    os.symlink("/run", "/var/run")
    for path in hidden:
        os.makedirs(path, exist_ok=True)
        view.bind(path, path, writable=False)
    for path in request["masks"]:
        if os.path.isdir(path):
            cover(path)
    if os.path.isdir("/dev/shm"):
        cover("/dev/shm", "1777", SHARED_MEMORY_BYTES)
    view.bind(request["code"], TASK_ROOT, writable=False)
    os.mkdir(RUNTIME_ROOT)
    for target, source in shown.items():
        if source:
            view.bind(source, target, writable=False)
    for name, path, writable in request["buckets"]:
        target = f"{MOUNT_ROOT}/{name}"
        os.mkdir(target)
        view.bind(path, target, writable)
    view.close()
    mount("none", MOUNT_ROOT, "", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RDONLY)


def become(uid: int) -> None:
    """Change to a user that owns nothing; its processes can be seen by each other only."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def limit(limits: "dict[str, int]", own_uid: bool) -> None:
    """Resource limits; the number of processes only where the uid is the sandbox's own, as it counts by uid."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, bound in (("nofile", resource.RLIMIT_NOFILE), ("fsize", resource.RLIMIT_FSIZE)):
        _, hard = resource.getrlimit(bound)
        value = limits[name] if hard == resource.RLIM_INFINITY else min(limits[name], hard)
        resource.setrlimit(bound, (value, value))
    if own_uid:
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["nproc"], limits["nproc"]))


def bind_to_parent(parent_pid: int, own_uid: bool) -> None:
    """Die with the parent, adopt orphans below, gain no privileges; a change of identity resets these."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # With a uid of its own a process may look at itself; with a shared one its neighbours must not look.
    prctl(PR_SET_DUMPABLE, 1 if own_uid else 0)


def _blocked_by(path: str) -> "str | None":
    """The first folder on the way that others may not enter or read at its end."""
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        folder = "/" + "/".join(parts[:depth])
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
