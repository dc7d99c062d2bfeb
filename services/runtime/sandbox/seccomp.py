"""The system calls that a sandbox may not make, as a program for the kernel's filter (classic BPF).

What handlers and their libraries use is left alone; refused is what reaches for the kernel itself, for other processes
or for new namespaces. A call that is newer than this list is answered "no such call", as programs expect of an older
kernel. Sources: the kernel's tables of system calls, Docker's default profile.
"""

import errno
import struct

# From here on the numbers are the same on every architecture.
_COMMON = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "process_mrelease": 448,
    "memfd_secret": 447,
}
# Beyond it (statmount and listmount come next): unknown to this list.
_LAST_KNOWN = 456
_NUMBERS = {
    "x86_64": {
        "socket": 41,
        "clone": 56,
        "ioctl": 16,
        "ptrace": 101,
        "syslog": 103,
        "personality": 135,
        "vhangup": 153,
        "modify_ldt": 154,
        "pivot_root": 155,
        "adjtimex": 159,
        "chroot": 161,
        "acct": 163,
        "settimeofday": 164,
        "mount": 165,
        "umount2": 166,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "sethostname": 170,
        "setdomainname": 171,
        "iopl": 172,
        "ioperm": 173,
        "init_module": 175,
        "delete_module": 176,
        "quotactl": 179,
        "lookup_dcookie": 212,
        "clock_settime": 227,
        "mbind": 237,
        "set_mempolicy": 238,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "migrate_pages": 256,
        "unshare": 272,
        "move_pages": 279,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "clock_adjtime": 305,
        "setns": 308,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "kcmp": 312,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
        "userfaultfd": 323,
        "mknod": 133,
        "mknodat": 259,
        "memfd_create": 319,
        "shmget": 29,
        "semget": 64,
        "msgget": 68,
        "mq_open": 240,
    },
    "aarch64": {
        "socket": 198,
        "clone": 220,
        "ioctl": 29,
        "ptrace": 117,
        "syslog": 116,
        "personality": 92,
        "vhangup": 58,
        "pivot_root": 41,
        "adjtimex": 171,
        "chroot": 51,
        "acct": 89,
        "settimeofday": 170,
        "mount": 40,
        "umount2": 39,
        "swapon": 224,
        "swapoff": 225,
        "reboot": 142,
        "sethostname": 161,
        "setdomainname": 162,
        "init_module": 105,
        "delete_module": 106,
        "quotactl": 60,
        "lookup_dcookie": 18,
        "clock_settime": 112,
        "mbind": 235,
        "set_mempolicy": 237,
        "kexec_load": 104,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "migrate_pages": 238,
        "unshare": 97,
        "move_pages": 239,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "clock_adjtime": 266,
        "setns": 268,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "kcmp": 272,
        "finit_module": 273,
        "kexec_file_load": 294,
        "bpf": 280,
        "userfaultfd": 282,
        "mknodat": 33,
        "memfd_create": 279,
        "shmget": 194,
        "semget": 190,
        "msgget": 186,
        "mq_open": 180,
    },
}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Memory that outlives the process, or that its limits do not count.
UNCOUNTED_MEMORY = ("memfd_create",)
UNOWNED_IPC = ("shmget", "semget", "msgget", "mq_open")
# Judged by their arguments, or answered in a way of their own.
_SPECIAL = frozenset({"socket", "clone", "ioctl", "clone3", "personality", "mknod", "mknodat"})
_SOMETIMES = frozenset(UNCOUNTED_MEMORY + UNOWNED_IPC)
_X32_BIT = 0x40000000
# Time namespaces have no flag in clone(2); the rest: new mount, cgroup, uts, ipc, user, pid and net namespaces.
_NAMESPACE_FLAGS = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
# Types a character into somebody's terminal; pastes into the console.
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_QUERY_PERSONALITY = 0xFFFFFFFF
_DEVICE_TYPES = (0o020000, 0o060000)

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE_OR_EQUAL, _JUMP_BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_NO_SUCH_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16


def is_known(architecture: str) -> bool:
    """Whether there is a filter for it."""
    return architecture in _NUMBERS


def names_refused(architecture: str) -> "list[str]":
    """Every call that is refused whatever its arguments are."""
    return sorted((_NUMBERS[architecture].keys() | _COMMON.keys()) - _SPECIAL - _SOMETIMES)


def program(
    architecture: str,
    has_network: bool,
    also_unknown: "tuple[str, ...]" = (),
    but: "tuple[str, ...]" = (),
) -> bytes:
    """The filter. KeyError: no filter for this architecture, see `is_known`.

    has_network: the sandbox may open internet sockets. also_unknown: UNCOUNTED_MEMORY where nobody counts the memory
    of files without a name, UNOWNED_IPC where there is no IPC namespace. but: names that this one does not refuse,
    because a further filter does before long.
    """
    numbers = {**_NUMBERS[architecture], **_COMMON}
    code = [
        _instruction(_LOAD, _ARCHITECTURE_AT),
        # Another architecture's calls have other numbers: nothing that runs here needs them.
        _instruction(_JUMP_EQUAL, _AUDIT_ARCH[architecture], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
    ]
    if architecture == "x86_64":
        code += [_instruction(_JUMP_ABOVE_OR_EQUAL, _X32_BIT, 0, 1), _instruction(_RETURN, _UNKNOWN)]
    families = (_AF_UNIX, _AF_NETLINK, _AF_INET, _AF_INET6) if has_network else (_AF_UNIX,)
    code += _judged(numbers["socket"], _one_of(families, _ALLOW, _NO_SUCH_FAMILY))
    code += _judged(numbers["clone"], [_instruction(_JUMP_BITS, _NAMESPACE_FLAGS, 0, 1), *_two(_REFUSE, _ALLOW)])
    code += _judged(numbers["ioctl"], _one_of((_TIOCSTI, _TIOCLINUX), _REFUSE, _ALLOW), argument=1)
    code += _judged(numbers["personality"], _one_of((0, _QUERY_PERSONALITY), _ALLOW, _REFUSE))
    kinds = [_instruction(_AND, 0o170000), *_one_of(_DEVICE_TYPES, _REFUSE, _ALLOW)]
    if "mknod" in numbers:
        code += _judged(numbers["mknod"], kinds, argument=1)
    code += _judged(numbers["mknodat"], kinds, argument=2)
    # Its flags lie in memory, where no filter looks; libc then uses clone.
    for name in ("clone3", *also_unknown):
        code += _answered(numbers[name], _UNKNOWN)
    for name in names_refused(architecture):
        if name not in but:
            code += _answered(numbers[name], _REFUSE)
    code += [_instruction(_JUMP_ABOVE_OR_EQUAL, _LAST_KNOWN + 1, 0, 1), *_two(_UNKNOWN, _ALLOW)]
    return b"".join(code)


def refusal(architecture: str, name: str) -> bytes:
    """A filter that refuses one call more, on top of `program`."""
    code = [
        _instruction(_LOAD, _NUMBER_AT),
        *_answered({**_NUMBERS[architecture], **_COMMON}[name], _REFUSE),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(code)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _two(first: int, second: int) -> "list[bytes]":
    return [_instruction(_RETURN, first), _instruction(_RETURN, second)]


def _answered(number: int, answer: int) -> "list[bytes]":
    return [_instruction(_JUMP_EQUAL, number, 0, 1), _instruction(_RETURN, answer)]


def _judged(number: int, judgement: "list[bytes]", argument: int = 0) -> "list[bytes]":
    """Look at the low half of an argument when it is this call; `judgement` ends in an answer whatever it finds."""
    load = _instruction(_LOAD, _ARGUMENTS_AT + 8 * argument)
    return [_instruction(_JUMP_EQUAL, number, 0, len(judgement) + 1), load, *judgement]


def _one_of(values: "tuple[int, ...]", then: int, otherwise: int) -> "list[bytes]":
    tests = [_instruction(_JUMP_EQUAL, value, len(values) - at) for at, value in enumerate(values)]
    return [*tests, _instruction(_RETURN, otherwise), _instruction(_RETURN, then)]
