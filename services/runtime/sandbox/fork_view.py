"""The mounts of a fork of a template: those of the template, with a /tmp of its own; made with the parent's privileges.

A process does it that ends after it, as it goes where nobody comes back from: into the template's user namespace.
"""

import os
import socket

from . import linux, view


def make(template_pid: int, tmp: str, needed: "list[str]", reply: socket.socket) -> None:
    """Send a descriptor of a mount namespace, or the reason why there is none.

    tmp: the folder, seen from here. needed: folders that must be seen below /tmp, too. The template's user namespace
    owns the new mount namespace, so that the template's fork may enter it.
    """
    try:
        mounts_fd = _make(template_pid, tmp, [path for path in needed if path.startswith("/tmp/")])
    except OSError as e:
        reply.send(str(e).encode()[:1_024])
    else:
        socket.send_fds(reply, [b"\0"], [mounts_fd])


def _make(template_pid: int, tmp: str, below_tmp: "list[str]") -> int:
    # This /proc knows this process; the template's does not.
    me_fd = os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
    users_fd = os.open(f"/proc/{template_pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    mounts_fd = os.open(f"/proc/{template_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    tmp_fd = linux.open_tree(tmp)
    linux.bar_tricks(tmp_fd)
    linux.setns(users_fd, linux.CLONE_NEWUSER)
    linux.setns(mounts_fd, linux.CLONE_NEWNS)
    linux.unshare(linux.CLONE_NEWNS)
    shown = [(path, linux.open_tree(path)) for path in below_tmp]
    linux.move_mount(tmp_fd, "/tmp")
    for path, fd in shown:
        # Only here: the function's code may have put links into its /tmp, which lead nowhere else from here.
        os.makedirs(path, exist_ok=True)
        linux.move_mount(fd, path)
    os.chdir(view.TASK_ROOT)
    return os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=me_fd)
