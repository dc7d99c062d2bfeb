"""Who a sandbox is and how much it may take: user, capabilities, resource limits, ties to its parent."""

import os
import resource
import signal
from typing import Any

from . import linux

# A program that is started by exec maps more than it uses, its threads' stacks above all.
EXEC_HEADROOM_BYTES = 536_870_912


def become(uid: int) -> None:
    """Change to a user that owns nothing. OSError: refused."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def limit(limits: "dict[str, int]", own_uid: bool, is_command: bool) -> None:
    """Resource limits; the number of processes only where the uid is the sandbox's own, as it counts by uid.

    "data": bytes of memory that this process may have beyond what it has now; 0: a cgroup counts it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bounds = [(resource.RLIMIT_NOFILE, limits["nofile"]), (resource.RLIMIT_FSIZE, limits["fsize"])]
    if own_uid:
        bounds.append((resource.RLIMIT_NPROC, limits["nproc"]))
    if limits["data"]:
        headroom = EXEC_HEADROOM_BYTES if is_command else 0
        bounds.append((resource.RLIMIT_DATA, _data_bytes() + limits["data"] + headroom))
    for bound, wanted in bounds:
        _, hard = resource.getrlimit(bound)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(bound, (value, value))


def bind_to_parent(parent_pid: int, own_pids: bool, own_uid: bool) -> None:
    """Die with the parent, adopt orphans below where no init does, gain no privileges.

    To be called after a change of identity, which resets these.
    """
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if not own_pids:
        if os.getppid() != parent_pid:
            os._exit(1)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    # With a uid of its own a process may look at itself; with a shared one its neighbours must not look.
    linux.prctl(linux.PR_SET_DUMPABLE, 1 if own_uid or own_pids else 0)


def _data_bytes() -> int:
    """What counts against RLIMIT_DATA in this process now."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1_024
    return 0


def signal_defaults(signals: "tuple[Any, ...]") -> None:
    """Undo what the parent arranged for itself."""
    signal.set_wakeup_fd(-1)
    for signum in signals:
        signal.signal(signum, signal.SIG_DFL)
