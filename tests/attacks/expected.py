"""What is known to get through, and why. Everything else must be stopped; a test fails when it is not.

Judged on a kernel with Landlock 6 (Linux 6.12). An older one stops less on the tiers 0 and a.
"""

from dataclasses import dataclass

from tests.attacks.columns import COLUMNS, Column
from tests.attacks.snap_start import IN_A_FORK

LANDLOCK_OF_THIS_TABLE = 6


@dataclass(frozen=True, slots=True)
class Gap:
    """by_design: it is offered, and can be switched off."""

    number: int
    variants: tuple[str, ...]
    columns: frozenset[str]
    why: str
    by_design: bool = False

    def covers(self, number: int, variant: str, column: Column) -> bool:
        """Whether it is about this variant there."""
        return number == self.number and variant in self.variants and column.name in self.columns


def _on(*isolations: str, network: str = "") -> frozenset[str]:
    """Columns of these titles' first part ("0", "0n", "a" ...); of one network mode, or both."""
    return frozenset(
        column.name
        for column in COLUMNS
        if column.name.removesuffix("-isolated") in isolations and network in ("", column.network)
    )


_ALL = ("0", "0n", "a", "b", "c")
_NETWORK_OF_TEMPLATES: tuple[str, ...] = ("9 TCP door", "10 localhost", "10 localhost on IPv6", "10 the host's address")
_NETWORK_OF_TEMPLATES += ("10 metadata address",)
GAPS: tuple[Gap, ...] = (
    Gap(
        6,
        ("socket buffers",),
        _on("0", "0n", "a"),
        "without a cgroup nobody counts the memory that the kernel holds for a process; the number of descriptors "
        "bounds it",
    ),
    Gap(
        6,
        ("many programs",),
        _on("0", "0n", "a"),
        "without a cgroup every process of a sandbox may have as much as a prepared parent has before it counts, as a "
        "fork shares that; a program that was started anew shares nothing",
    ),
    Gap(
        7,
        ("without a name", "too deep"),
        _on(*_ALL),
        "what is counted is what paths below /tmp lead to: a file that is open and removed has none, and one that lies "
        "deeper than a path can say is not found",
    ),
    Gap(
        7,
        ("behind a door",),
        _on("0", "0n"),
        "a folder that is closed even to its owner is closed to the host that counts, as it is the same user",
    ),
    Gap(
        7,
        ("for a moment",),
        _on(*_ALL),
        "the size of /tmp is looked at every 0.2 s while the function runs: what is more and gone by then, the disk "
        "must bear",
    ),
    Gap(
        8,
        ("inotify",),
        _on("0", "0n"),
        "the kernel counts these for a user, who is the host's own here",
    ),
    Gap(
        9,
        ("path socket",),
        _on("0"),
        "no mounts hide the folder and the user is the host's own; Landlock does not stop a connect to a socket with a "
        "path. The fleet's own sockets, those of the metrics too, ask for its token",
    ),
    Gap(
        9,
        ("TCP door",),
        _on(*_ALL, network="host"),
        "a function may use the network as the host does; it has its own credentials only",
        by_design=True,
    ),
    Gap(
        10,
        ("localhost", "localhost on IPv6", "the host's address", "metadata address"),
        _on(*_ALL, network="host"),
        "a function may use the network as the host does",
        by_design=True,
    ),
    Gap(
        100,
        tuple(f"{name}{where}" for name in _NETWORK_OF_TEMPLATES for where in ("", IN_A_FORK)),
        _on("c", network="host"),
        "a function may use the network as the host does",
        by_design=True,
    ),
    Gap(
        100,
        ("13 capabilities", "11 further descriptors"),
        _on("c"),
        "while a template loads it has two capabilities over mounts of its own, in a user namespace that knows its own "
        "user only, and a socket to the host; its forks have neither "
        "([ADR 14](adr/0014-snapstart-by-forks-of-a-sandbox.md))",
        by_design=True,
    ),
    Gap(
        18,
        ("numbers",),
        _on(*_ALL),
        "duration and peak memory are the sandbox's own word, within the host's clock",
    ),
    Gap(
        19,
        ("error text",),
        _on("0"),
        "without mounts the code lies where the host keeps it, and a stack trace says so",
    ),
)
# A plain process of an ordinary user is kept from these by the kernel itself: only root's shows that they work.
CONTROLS_OF_ROOT = {
    (1, "by handle"),
    *((13, name) for name in ("users", "mounts", "setns", "bpf", "userfaultfd", "administration", "devices")),
    *((13, name) for name in ("kernel's files", "control groups", "perf", "io_uring", "nested root", "namespaces")),
}


def gap_of(number: int, variant: str, column: Column) -> Gap | None:
    """The known gap for this variant in this column."""
    return next((gap for gap in GAPS if gap.covers(number, variant, column)), None)
