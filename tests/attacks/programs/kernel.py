"""Attack 13, the kernel's side: keys, bpf, io_uring, perf, modules, devices, files that steer the kernel, terminals.

Calls that would change the machine get arguments that cannot succeed: what counts is whether the kernel asks who calls.
"""

import fcntl
import os
import stat
import struct
import termios
from ctypes import create_string_buffer
from typing import Any

from . import system
from .lib import Event, Tries, in_child, opens, works

_PROCESS_KEYRING, _USER_KEYRING = -2, -4
_KEYCTL_UNLINK = 9
_PERF_ATTRIBUTE_BYTES = 112
_SYSLOG_READ_ALL = 3
DEVICES: "tuple[str, ...]" = ("mem", "kmem", "port", "kmsg", "vda", "sda", "nvme0n1", "fuse", "kvm", "net/tun")
DEVICES += (
    "loop-control",
    "loop0",
    "vsock",
    "vhost-vsock",
    "uinput",
    "hpet",
    "cpu/0/msr",
    "console",
    "btrfs-control",
    "cpu_dma_latency",
)
FILES = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/memory/release_agent",
    "/sys/fs/cgroup/pids/release_agent",
    "/sys/fs/cgroup/cgroup.subtree_control",
    "/sys/power/state",
)
GROUPS = ("", "memory/", "pids/", "cpu/", "freezer/", "unified/")


def keys(event: Event, tries: Tries) -> None:
    """A key in a keyring of the kernel; the user's outlives the sandbox."""

    def attempt(ring: int) -> bool:
        key = system.call("add_key", b"user", b"ef-attack", b"x", 1, ring)
        system.call("keyctl", _KEYCTL_UNLINK, key, ring, 0, 0)
        return True

    for name, ring in (("process", _PROCESS_KEYRING), ("user", _USER_KEYRING)):
        tries.take(name, in_child, attempt, ring)


def bpf(event: Event, tries: Tries) -> None:
    """A map, and a program of one instruction."""
    a_map = create_string_buffer(struct.pack("IIIII", 2, 4, 8, 1, 0).ljust(72, b"\0"), 72)
    tries.take("map", in_child, system.succeeds, "bpf", 0, a_map, 72)
    tries.take("program", in_child, system.is_reached, "bpf", 5, create_string_buffer(72), 72)


def io_uring(event: Event, tries: Tries) -> None:
    """A ring, past every filter of system calls."""
    tries.take("ring", in_child, system.succeeds, "io_uring_setup", 1, create_string_buffer(120))


def perf(event: Event, tries: Tries) -> None:
    """Counters of this process, and of a whole core."""
    attribute = struct.pack("IIQ", 1, _PERF_ATTRIBUTE_BYTES, 0).ljust(_PERF_ATTRIBUTE_BYTES, b"\0")
    user_only = bytearray(attribute)
    user_only[40] = 0b01100000
    for what, data, pid, core in (("own", bytes(user_only), 0, -1), ("a core", attribute, -1, 0)):
        buffer = create_string_buffer(data, _PERF_ATTRIBUTE_BYTES)
        tries.take(what, in_child, system.succeeds, "perf_event_open", buffer, pid, core, -1, 0)


def user_faults(event: Event, tries: Tries) -> None:
    """userfaultfd: stop the kernel in the middle of a copy."""
    tries.take("any faults", in_child, system.succeeds, "userfaultfd", 0)


def administration(event: Event, tries: Tries) -> None:
    """Modules, another kernel, restart, swap, accounting, quotas, ports, the kernel's log, another root."""
    nothing = create_string_buffer(16)
    for name, arguments in (
        ("init_module", (nothing, 0, b"")),
        ("finit_module", (-1, b"", 0)),
        ("kexec_load", (0, 1 << 20, nothing, 0xFFFF)),
        ("reboot", (0, 0, 0, None)),
        ("swapon", (b"/nowhere", 0)),
        ("acct", (b"/nowhere/at/all",)),
        ("quotactl", (0x80000100, b"/nowhere", 0, nothing)),
        ("iopl", (3,)),
        ("syslog", (_SYSLOG_READ_ALL, nothing, 16)),
        ("pivot_root", (b"/nowhere", b"/nowhere")),
    ):
        tries.take(name, in_child, system.is_reached, name, *arguments)
    tries.take("chroot", in_child, works, os.chroot, "/")


def devices(event: Event, tries: Tries) -> None:
    """Open a device, or make one."""
    for name in DEVICES:
        tries.take(name, opens, f"/dev/{name}", os.O_RDONLY)
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "ef-attack-device")

    def make() -> bool:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 1))
        os.unlink(path)
        return True

    tries.take("mknod", make)


def steering_files(event: Event, tries: Tries) -> None:
    """Files that steer the kernel, opened for writing; nothing is written."""
    for path in FILES:
        tries.take(path, opens, path, os.O_WRONLY)


def groups(event: Event, tries: Tries) -> None:
    """Leave the control group, and with it the limits."""

    def attempt(path: str) -> bool:
        with open(path, "w") as file:
            file.write("0")
        return True

    for group in GROUPS:
        path = f"/sys/fs/cgroup/{group}cgroup.procs"
        tries.take(path, in_child, attempt, path)


def terminal(event: Event, tries: Tries) -> None:
    """Type into the terminal that the host was started from."""

    def attempt() -> bool:
        fd = os.open("/dev/tty", os.O_RDWR)
        fcntl.ioctl(fd, termios.TIOCSTI, b"\n")
        return True

    tries.take("/dev/tty", attempt)


VARIANTS: "dict[str, Any]" = {
    "keyctl": keys,
    "bpf": bpf,
    "io_uring": io_uring,
    "perf": perf,
    "userfaultfd": user_faults,
    "administration": administration,
    "devices": devices,
    "kernel's files": steering_files,
    "control groups": groups,
    "terminal": terminal,
}
