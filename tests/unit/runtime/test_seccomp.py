"""The filter's verdicts, read by an interpreter of the kernel's machine; tests/attacks makes the calls for real."""

import errno
import struct

import pytest

from services.runtime.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NEW_USER, NEW_NET, THREAD = 0x10000000, 0x40000000, 0x003D0F00
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET = {"x86_64": 41, "aarch64": 198}
OPENAT = {"x86_64": 257, "aarch64": 56}
MKNODAT = {"x86_64": 259, "aarch64": 33}


def verdict(program: bytes, number: int, *arguments: int, audit: int) -> int | str:
    """What the kernel would answer: "allow", "kill" or an errno."""
    data = struct.pack("=IIQ6Q", number, audit, 0, *(list(arguments) + [0] * 6)[:6])
    accumulator = at = 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return {ALLOW: "allow", KILL: "kill"}.get(value, int(value) & 0xFFFF)
        else:
            passed = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if passed else if_false


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_calls_that_reach_for_the_kernel_are_refused_and_the_others_are_not(architecture: str) -> None:
    program, audit = seccomp.program(architecture, has_network=True), ARCHITECTURES[architecture]
    refused = seccomp.names_refused(architecture)
    assert {"mount", "ptrace", "bpf", "unshare", "setns", "keyctl", "io_uring_setup", "process_vm_readv"} <= set(
        refused
    )
    numbers = {**seccomp._COMMON, **seccomp._NUMBERS[architecture]}
    for name in refused:
        assert verdict(program, numbers[name], audit=audit) == errno.EPERM, name
    judged = set(numbers.values())
    for number in range(400):
        if number not in judged:
            assert verdict(program, number, audit=audit) == "allow", number
    # What came after this list was written is answered as by an older kernel.
    assert verdict(program, 457, audit=audit) == verdict(program, 9_999, audit=audit) == errno.ENOSYS
    assert verdict(program, numbers["clone3"], audit=audit) == errno.ENOSYS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_arguments_decide_where_a_call_has_two_sides(architecture: str) -> None:
    program, audit = seccomp.program(architecture, has_network=True), ARCHITECTURES[architecture]
    clone, mknodat = CLONE[architecture], MKNODAT[architecture]
    assert verdict(program, clone, THREAD, audit=audit) == "allow"
    assert verdict(program, clone, THREAD | NEW_USER, audit=audit) == errno.EPERM
    assert verdict(program, clone, NEW_NET | 17, audit=audit) == errno.EPERM
    assert verdict(program, mknodat, 0, 0, 0o010644, audit=audit) == "allow"
    assert verdict(program, mknodat, 0, 0, 0o020644, audit=audit) == errno.EPERM
    for family, expected in (
        (1, "allow"),
        (2, "allow"),
        (10, "allow"),
        (17, errno.EAFNOSUPPORT),
        (40, errno.EAFNOSUPPORT),
    ):
        assert verdict(program, SOCKET[architecture], family, audit=audit) == expected


def test_without_a_network_only_local_sockets_are_made() -> None:
    program = seccomp.program("x86_64", has_network=False)
    found = [verdict(program, SOCKET["x86_64"], family, audit=ARCHITECTURES["x86_64"]) for family in (1, 2, 10, 16)]
    assert found == ["allow", *[errno.EAFNOSUPPORT] * 3]


def test_what_nobody_counts_is_not_there() -> None:
    plain = seccomp.program("x86_64", has_network=True)
    counted = seccomp.program("x86_64", True, seccomp.UNCOUNTED_MEMORY + seccomp.UNOWNED_IPC)
    for name in ("memfd_create", "shmget", "semget", "msgget", "mq_open"):
        number = seccomp._NUMBERS["x86_64"][name]
        assert verdict(plain, number, audit=ARCHITECTURES["x86_64"]) == "allow"
        assert verdict(counted, number, audit=ARCHITECTURES["x86_64"]) == errno.ENOSYS


def test_another_architectures_calls_end_the_process() -> None:
    program = seccomp.program("x86_64", has_network=True)
    assert verdict(program, OPENAT["x86_64"], audit=0x40000003) == "kill"
    assert verdict(program, OPENAT["x86_64"], audit=ARCHITECTURES["x86_64"]) == "allow"
    # The x32 numbers are the same calls by another name.
    assert verdict(program, 0x40000000 | 165, audit=ARCHITECTURES["x86_64"]) == errno.ENOSYS


def test_an_unknown_architecture_has_no_filter() -> None:
    assert not seccomp.is_known("riscv64") and seccomp.is_known("aarch64")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_template_may_make_one_call_more_which_its_forks_may_not(architecture: str) -> None:
    """The second filter refuses what the first let through; all else is as ever."""
    audit = ARCHITECTURES[architecture]
    numbers = {**seccomp._COMMON, **seccomp._NUMBERS[architecture]}
    first = seccomp.program(architecture, True, (), ("setns",))
    second = seccomp.refusal(architecture, "setns")
    assert verdict(first, numbers["setns"], audit=audit) == "allow"
    assert verdict(second, numbers["setns"], audit=audit) == errno.EPERM
    for name in seccomp.names_refused(architecture):
        if name != "setns":
            assert verdict(first, numbers[name], audit=audit) == errno.EPERM, name
            assert verdict(second, numbers[name], audit=audit) == "allow", name
