"""System calls that Python has no function for, by their numbers."""

import ctypes
import os

_NUMBERS = {
    "x86_64": {
        "acct": 163,
        "add_key": 248,
        "bpf": 321,
        "clone3": 435,
        "finit_module": 313,
        "fsopen": 430,
        "init_module": 175,
        "io_uring_setup": 425,
        "iopl": 172,
        "kexec_load": 246,
        "keyctl": 250,
        "mount": 165,
        "name_to_handle_at": 303,
        "open_by_handle_at": 304,
        "perf_event_open": 298,
        "pidfd_getfd": 438,
        "pivot_root": 155,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "ptrace": 101,
        "quotactl": 179,
        "reboot": 169,
        "rt_sigqueueinfo": 129,
        "setns": 308,
        "swapon": 167,
        "syslog": 103,
        "tgkill": 234,
        "umount2": 166,
        "unshare": 272,
        "userfaultfd": 323,
    },
    "aarch64": {
        "acct": 89,
        "add_key": 217,
        "bpf": 280,
        "clone3": 435,
        "finit_module": 273,
        "fsopen": 430,
        "init_module": 105,
        "io_uring_setup": 425,
        "kexec_load": 104,
        "keyctl": 219,
        "mount": 40,
        "name_to_handle_at": 264,
        "open_by_handle_at": 265,
        "perf_event_open": 241,
        "pidfd_getfd": 438,
        "pivot_root": 41,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "ptrace": 117,
        "quotactl": 60,
        "reboot": 142,
        "rt_sigqueueinfo": 138,
        "setns": 268,
        "swapon": 224,
        "syslog": 116,
        "tgkill": 131,
        "umount2": 39,
        "unshare": 97,
        "userfaultfd": 282,
    },
}
NAMES = {
    "NEWTIME": 0x00000080,
    "NEWNS": 0x00020000,
    "NEWCGROUP": 0x02000000,
    "NEWUTS": 0x04000000,
    "NEWIPC": 0x08000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None") -> int:
    """The system call's result. OSError: it refused, or this machine has no such call."""
    number = _NUMBERS.get(os.uname().machine, {}).get(name)
    if number is None:
        raise OSError(38, f"no {name} on {os.uname().machine}")
    passed = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    ctypes.set_errno(0)
    result = int(libc.syscall(ctypes.c_long(number), *passed))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def succeeds(name: str, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None") -> bool:
    """True, as a result of 0 says yes here. OSError: as `call`."""
    call(name, *arguments)
    return True


def is_reached(name: str, *arguments: "int | bytes | ctypes.Array[ctypes.c_char] | ctypes.c_void_p | None") -> bool:
    """Whether a call with arguments that cannot succeed gets further than "not you". OSError: it does not."""
    try:
        call(name, *arguments)
    except OSError as e:
        if e.errno in (1, 13, 38):
            raise
    return True
