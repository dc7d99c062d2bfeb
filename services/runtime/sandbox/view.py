"""What a sandbox with mounts of its own sees of the file system, made in two steps.

Before its function is known: everything read-only, the fleet's folders and other people's gone, a /proc, /dev/shm and
/mnt of its own. Then what the function brings: code at /var/task, layers at /opt, a private /tmp, granted buckets at
/mnt.
"""

import os
import stat
from typing import Any

from . import linux

TASK_ROOT = "/var/task"
RUNTIME_ROOT = "/var/runtime"
LAYERS_ROOT = "/opt"
MOUNT_ROOT = "/mnt"
# Made for the sandbox: nothing of the machine is left there.
OWN_ROOTS = ("/var", MOUNT_ROOT)
SHARED_MEMORY_BYTES = 67_108_864
COVER_BYTES = 1_048_576
COVER_INODES = 4_096
_NO_TRICKS = linux.MS_NOSUID | linux.MS_NODEV
# Flags that a user namespace must keep when it mounts again: read-only, nosuid, nodev, noexec, noatime, relatime.
_KEPT_FLAGS = 1 | 2 | 4 | 8 | 1024 | 4096 << 9


class View:
    """Sources are opened before anything is covered, so that they can be shown although their place is hidden."""

    def __init__(self, hides: "list[str]", needed: "list[str]", folder: str, others_need: bool) -> None:
        """`hides`: the fleet's own folders; `needed`: the interpreter's; `folder`: holds all that a function brings.

        others_need: the sandbox will be another user, to whom a folder on the way may be closed.
        """
        self._folder = folder
        self._folder_fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        self._hides = hides
        self._covers = [path for path in (*OWN_ROOTS, LAYERS_ROOT) if os.path.isdir(path)]
        if others_need:
            self._covers += sorted({blocked for path in needed if (blocked := _blocked_by(path)) is not None})
        shown = [path for path in needed if any(_is_within(path, c) for c in [*self._covers, "/tmp"])]
        self._shown = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in shown}
        # Of folders that are nowhere to be seen in the view.
        self.kept_fds: list[int] = []
        self._opt_fd = os.open(LAYERS_ROOT, os.O_PATH | os.O_CLOEXEC) if LAYERS_ROOT in self._covers else -1

    def build(self, has_own_proc: bool) -> None:
        """The first step. OSError: refused."""
        try:
            linux.make_read_only("/")
        except OSError:
            # An older kernel: file modes, and Landlock where it is, keep the sandbox from writing.
            pass
        if has_own_proc:
            linux.mount("proc", "/proc", "proc", _NO_TRICKS | linux.MS_NOEXEC)
        for path in self._covers:
            cover(path)
        cover("/tmp", "1777")
        for path in (TASK_ROOT, RUNTIME_ROOT):
            os.mkdir(path)
        os.symlink("/tmp", "/var/tmp")
        os.symlink("/run", "/var/run")
        self._show_needed()
        for path in self._hides:
            if os.path.isdir(path):
                cover(path)
        if os.path.isdir("/dev/shm"):
            cover("/dev/shm", "1777", SHARED_MEMORY_BYTES)

    def add_function(self, request: "dict[str, Any]") -> None:
        """The second step. OSError: refused. ValueError: a source is outside of the folder."""
        self._show(request["code"], TASK_ROOT)
        if self._opt_fd >= 0:
            if request["layers"]:
                self._show(request["layers"], LAYERS_ROOT)
            else:
                # Whatever this machine has there: its Python may be among it.
                _bind(f"/proc/self/fd/{self._opt_fd}", LAYERS_ROOT, writable=False)
            os.close(self._opt_fd)
        for name, path, writable in request["buckets"]:
            target = f"{MOUNT_ROOT}/{name}"
            os.mkdir(target)
            self._show(path, target, writable=writable)
        self._show(request["tmp"], "/tmp", writable=True)
        # What stood below /tmp is behind the function's own now.
        self._show_needed("/tmp")
        for path in OWN_ROOTS:
            linux.mount("none", path, "", linux.MS_REMOUNT | linux.MS_BIND | _NO_TRICKS | linux.MS_RDONLY)
        self.kept_fds = [os.open(self._source(path), os.O_PATH | os.O_CLOEXEC) for path in request.get("fork_tmps", ())]
        for fd in (self._folder_fd, *self._shown.values()):
            os.close(fd)

    def _show_needed(self, below: str = "/") -> None:
        for path, fd in self._shown.items():
            if _is_within(path, below):
                os.makedirs(path, exist_ok=True)
                _bind(f"/proc/self/fd/{fd}", path, writable=False)

    def _show(self, source: str, target: str, writable: bool = False) -> None:
        _bind(self._source(source), target, writable)

    def _source(self, path: str) -> str:
        if not _is_within(path, self._folder):
            raise ValueError(f"{path} is not below {self._folder}")
        return f"/proc/self/fd/{self._folder_fd}{path[len(self._folder) :]}"


def cover(target: str, mode: str = "0755", size_bytes: int = COVER_BYTES) -> None:
    """An empty folder in front of what is there. OSError: refused."""
    options = f"mode={mode},size={size_bytes},nr_inodes={COVER_INODES}"
    linux.mount("evenflow", target, "tmpfs", _NO_TRICKS, options)


def _bind(source: str, target: str, writable: bool) -> None:
    linux.mount(source, target, "", linux.MS_BIND | linux.MS_REC)
    flags = linux.MS_REMOUNT | linux.MS_BIND | _NO_TRICKS
    kept = os.statvfs(target).f_flag & _KEPT_FLAGS
    # Shown through a view that is read-only as a whole, or not: what the function may write is told here.
    linux.mount("none", target, "", flags | (kept & ~1 if writable else kept | linux.MS_RDONLY))


def _blocked_by(path: str) -> "str | None":
    """The first folder on the way that others may not enter or read at its end."""
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        folder = "/" + "/".join(parts[:depth])
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
