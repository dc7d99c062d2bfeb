"""Becomes a container: reads a JSON document on standard input and runs what it says. Standard library only.

It enters the network namespace, makes namespaces for mounts, processes, names and messages, builds a root file system
from the machine's programs and the container's folders, lets go of every privilege and starts the program under a small
init. When this process ends, however it does, the kernel ends everything in the container.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000
_BIND, _REC, _PRIVATE, _RDONLY, _REMOUNT, _NOSUID, _NODEV = 4096, 16384, 1 << 18, 1, 32, 2, 4
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 38, 24
_LAST_CAPABILITY = 63
# What a slim image has and every machine has, too.
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
# What an image has besides, empty.
_FOLDERS = ("/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/var/lib", "/var/log", "/var/tmp")
_OWN_IN_ETC = {"hosts", "hostname", "resolv.conf", "evenflow"}


def main() -> None:
    """Never returns; the exit code is the program's, 128 + N when signal N ended it."""
    spec = json.load(sys.stdin)
    parent = os.getppid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with open(spec["network"]) as network:
        _check(_LIBC.setns(network.fileno(), _NEWNET), "setns")
    _check(_LIBC.unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWPID), "unshare")
    init = os.fork()
    if init == 0:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _be_init(spec)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _frame: os.kill(init, number))
    os._exit(_code(_wait(init)))


def _be_init(spec: dict[str, Any]) -> None:
    """Process 1 of the container: starts the program, passes signals on, reaps whatever is left over."""
    _LIBC.sethostname(spec["hostname"].encode(), len(spec["hostname"]))
    _build_root(spec)
    program = os.fork()
    if program == 0:
        _become(spec)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda number, _frame: os.kill(program, number))
    os._exit(_code(_wait(program)))


def _build_root(spec: dict[str, Any]) -> None:
    root = spec["root"]
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NOSUID, "size=16m,mode=0755")
    for path in _PROGRAMS:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            _bind(path, root + path, True)
    os.mkdir(f"{root}/etc")
    for entry in os.scandir("/etc"):
        if entry.name not in _OWN_IN_ETC:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), root + entry.path)
            elif entry.is_dir() or entry.is_file():
                _bind(entry.path, root + entry.path, True)
    for name, text in (("hostname", spec["hostname"] + "\n"), ("resolv.conf", "")):
        with open(f"{root}/etc/{name}", "w") as file:
            file.write(text)
    for path in (*_FOLDERS, "/proc"):
        os.makedirs(root + path)
    _mount("proc", f"{root}/proc", "proc", 0)
    for path in ("/dev", "/sys"):
        _bind(path, root + path, False, _REC)
    # Parents first: a folder inside another folder lies on top of it.
    for target, source, is_read_only in sorted(spec["binds"]):
        _bind(source, root + target, is_read_only)
    for target, options in sorted(spec["tmpfs"]):
        os.makedirs(root + target, exist_ok=True)
        _mount("tmpfs", root + target, "tmpfs", _NOSUID | _NODEV, options)
    _mount("tmpfs", f"{root}/dev/shm", "tmpfs", _NOSUID | _NODEV, "size=64m,mode=1777")
    if spec["read_only"]:
        _mount("none", root, None, _REMOUNT | _RDONLY | _NOSUID)
    os.chdir(root)
    # What was the root lies on the new one for a moment and is then let go: nothing of the machine stays within reach.
    _check(_LIBC.syscall(_PIVOT_ROOT, b".", b"."), "pivot_root")
    _check(_LIBC.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _become(spec: dict[str, Any]) -> None:
    """The program, as the container's user, with no capability and no way to get one."""
    os.setsid()
    os.chdir(spec["workdir"])
    uid, gid = spec["uid"], spec["gid"]
    for capability in range(_LAST_CAPABILITY + 1):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.umask(0o022)
    command, environment = spec["command"], spec["environment"]
    try:
        found = shutil.which(command[0], path=environment["PATH"])
        if found is None:
            raise FileNotFoundError(2, "no such program", command[0])
        with open(found, "rb") as file:
            is_python = file.read(2) == b"#!" and b"python" in file.readline()
        # A script's first line names the interpreter where it was installed, which is not here.
        run = [shutil.which("python", path=environment["PATH"]) or "python", found] if is_python else [found]
        os.execve(run[0], [*run, *command[1:]], environment)
    except OSError as e:
        print(f"{command[0]}: {e}", file=sys.stderr, flush=True)
    os._exit(127)


def _bind(source: str, target: str, is_read_only: bool, more: int = 0) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    _mount(source, target, None, _BIND | more)
    if is_read_only:
        _mount("none", target, None, _BIND | _REMOUNT | _RDONLY)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    given = kind.encode() if kind else None
    _check(_LIBC.mount(source.encode(), target.encode(), given, flags, options.encode() or None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _wait(pid: int) -> int:
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except InterruptedError:
            continue
        if ended == pid:
            return status


def _code(status: int) -> int:
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]

if __name__ == "__main__":
    main()
