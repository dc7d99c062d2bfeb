"""System calls that Python's library has not; Linux, through ctypes, as no code is built."""

import ctypes
import os
import platform
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
# The same numbers on every architecture, as all system calls since 5.1.
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
LAST_CAPABILITY = 63
CAP_SYS_CHROOT = 18
CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION_3 = 0x20080522
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NOSUID = 2
_MOUNT_ATTR_NODEV = 4

# Keeps the interpreter's lock: a process that is being shut in has one thread only.
_libc = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def prctl(option: int, value: int, pointer: "ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None" = None) -> None:
    """prctl(2). OSError: refused."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), pointer or ctypes.c_ulong(0), 0, 0), f"prctl {option}")


def unshare(flags: int) -> None:
    """unshare(2). OSError: refused."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2). OSError: refused."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). OSError: refused."""
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {target}")


def make_read_only(path: str) -> None:
    """Every mount at and below `path`, at once, ignoring set-user-id bits there. OSError: the kernel is before 5.12."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
    result = _libc.syscall(
        SYS_MOUNT_SETATTR, _AT_FDCWD, path.encode(), _AT_RECURSIVE, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, f"mount_setattr {path}")


def open_tree(path: str) -> int:
    """A copy of what is mounted at and below `path`, mounted nowhere: a descriptor. OSError: refused."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    fd: int = _libc.syscall(SYS_OPEN_TREE, _AT_FDCWD, path.encode(), flags)
    _check(fd, f"open_tree {path}")
    return fd


def bar_tricks(tree_fd: int) -> None:
    """No devices and no set-user-id bits in what `open_tree` gave. OSError: refused."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV, 0, 0, 0)
    result = _libc.syscall(
        SYS_MOUNT_SETATTR, tree_fd, b"", _AT_EMPTY_PATH, attributes, ctypes.c_size_t(len(attributes))
    )
    _check(result, "mount_setattr")


def move_mount(tree_fd: int, target: str) -> None:
    """Mount what `open_tree` gave. OSError: refused."""
    result = _libc.syscall(SYS_MOVE_MOUNT, tree_fd, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _check(result, f"move_mount {target}")


def set_host_name(name: str) -> None:
    """sethostname(2). OSError: refused."""
    _check(_libc.sethostname(name.encode(), len(name.encode())), "sethostname")


def bar_capabilities() -> None:
    """No exec will ever bring one; those of this process stay."""
    for capability in range(LAST_CAPABILITY + 1):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            # The last one that this kernel knows was before it; or none may be barred, as there is none.
            break


def drop_capabilities(but: "tuple[int, ...]" = ()) -> None:
    """Give up all but these, whose numbers are below 32. OSError: refused."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    kept = sum(1 << number for number in but)
    _check(_libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept)), "capset")


def landlock_create_ruleset(attributes: bytes, flags: int = 0) -> int:
    """landlock_create_ruleset(2): a descriptor, or the version that the kernel has. OSError: refused, or not there."""
    pointer = attributes or None
    fd: int = _libc.syscall(SYS_LANDLOCK_CREATE_RULESET, pointer, ctypes.c_size_t(len(attributes)), flags)
    _check(fd, "landlock_create_ruleset")
    return fd


def landlock_add_rule(ruleset_fd: int, kind: int, attributes: bytes) -> None:
    """landlock_add_rule(2). OSError: refused."""
    _check(_libc.syscall(SYS_LANDLOCK_ADD_RULE, ruleset_fd, kind, attributes, 0), "landlock_add_rule")


def landlock_restrict_self(ruleset_fd: int) -> None:
    """landlock_restrict_self(2). OSError: refused."""
    _check(_libc.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0), "landlock_restrict_self")


def load_seccomp_filter(program: bytes) -> None:
    """Have the kernel judge this process's system calls, for good; after PR_SET_NO_NEW_PRIVS. OSError: refused."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(instructions))
    prctl(PR_SET_SECCOMP, 2, ctypes.create_string_buffer(header, len(header)))


def machine() -> str:
    """The architecture: x86_64, aarch64, ..."""
    return platform.machine()
