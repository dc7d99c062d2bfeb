"""What a sandbox may open, as a Landlock ruleset: everything that is not named here is refused.

Needs no privilege and holds on every tier; what the kernel's version does not know is left out. Besides files: no
signals to processes outside the sandbox and no abstract sockets of others (kernel 6.12 on), no looking into processes
outside (any version). It does not stop a connect to a socket that has a path: the fleet's sockets ask for its token.
Source: the kernel's Documentation/userspace-api/landlock.rst.
"""

import os
import stat
import struct

from . import linux

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_HANDLED_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
_HANDLED_SINCE_5 = (1 << 16) - 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_FIRST_VERSION_WITH_SCOPES = 6
_GET_VERSION = 1
_PATH_BENEATH = 1
READ = READ_FILE | READ_DIR
READ_AND_RUN = READ | EXECUTE
# Devices cannot be made, whatever else may be.
EVERYTHING = _HANDLED_SINCE_5 & ~(_MAKE_CHAR | _MAKE_BLOCK)
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
# Programs, libraries and the machine's own configuration; nobody's data.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/snap")
SYSTEM_FACTS = (
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    *(
        f"/proc/{name}"
        for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version", "vmstat")
    ),
)
# What programs need of it; not the rest: a service's configuration may hold its secrets.
_IN_ETC = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "magic",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "profile",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
CONFIGURATION = (
    *(f"/etc/{name}" for name in _IN_ETC),
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager/resolv.conf",
)
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"))


def version() -> int:
    """The version that this kernel has; 0: none."""
    try:
        return linux.landlock_create_ruleset(b"", _GET_VERSION)
    except OSError:
        return 0


def set_apart(of_version: int) -> None:
    """A domain of its own inside of the one that holds: its rules hold on, and its siblings' processes are others'.

    Neither may look into the other; since 6.12 no signals either. After PR_SET_NO_NEW_PRIVS. OSError: refused.
    """
    # A ruleset must be about something: what the one that holds refuses already.
    scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if of_version >= _FIRST_VERSION_WITH_SCOPES else 0
    attributes = struct.pack("=QQQ", _MAKE_CHAR | _MAKE_BLOCK, 0, scopes)
    fd = linux.landlock_create_ruleset(attributes if scopes else attributes[:8])
    linux.landlock_restrict_self(fd)
    os.close(fd)


class Ruleset:
    """Rules that add up; `enforce` makes them hold for this process and all that it starts, for good."""

    def __init__(self, of_version: int) -> None:
        self._handled = _HANDLED_BY_VERSION.get(of_version, _HANDLED_SINCE_5)
        scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if of_version >= _FIRST_VERSION_WITH_SCOPES else 0
        attributes = struct.pack("=QQQ", self._handled, 0, scopes)
        self._fd = linux.landlock_create_ruleset(attributes if scopes else attributes[:8])

    def allow(self, path: str, access: int) -> None:
        """At and below a path; one that is not there needs no rule. OSError: the kernel refuses the rule."""
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                access &= _OF_FILES
            linux.landlock_add_rule(self._fd, _PATH_BENEATH, struct.pack("=Qi", access & self._handled, fd))
        finally:
            os.close(fd)

    def allow_system(self) -> None:
        """What every program may see of the machine."""
        for paths, access in (
            (SYSTEM, READ_AND_RUN),
            (CONFIGURATION, READ),
            (SYSTEM_FACTS, READ),
            (DEVICES, DEVICE | READ_DIR),
        ):
            for path in paths:
                self.allow(path, access)

    def enforce(self) -> None:
        """After PR_SET_NO_NEW_PRIVS. OSError: refused."""
        linux.landlock_restrict_self(self._fd)
        os.close(self._fd)
