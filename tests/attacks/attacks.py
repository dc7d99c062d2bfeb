"""The attacks, by number: what each tries, with which program and variants, and how it is carried out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tests.attacks import drives, drives_of_life, drives_of_words, hostile, snap_start
from tests.attacks.cell import Cell
from tests.attacks.finding import Findings

# Left out of a quick run: files enough to pass the host's own bound take a minute to make on an ordinary disk; the
# others are stopped by what stops their siblings.
SLOW = ("inodes", "many files", "reserved", "shared", "memfd", "System V", "double", "guessed ids", "init error")
OTHER_NUMBERS = 100
Drive = Callable[[Cell], Awaitable[Findings]]


@dataclass(frozen=True, slots=True)
class Attack:
    """controls: variants that a plain process must succeed with; no_control: why there is none for the others.

    only: columns that have what it attacks; empty: all have. Numbers from 100 on, and 0, are not of the list.
    """

    number: int
    title: str
    program: str
    variants: tuple[str, ...]
    drive: Drive = drives.at_once
    controls: tuple[str, ...] = ()
    no_control: str = ""
    only: tuple[str, ...] = ()

    def without_slow(self) -> "Attack":
        """The same without what takes minutes."""
        return replace(
            self,
            variants=tuple(name for name in self.variants if name not in SLOW),
            controls=tuple(name for name in self.controls if name not in SLOW),
        )

    @property
    def name(self) -> str:
        """Such as "5 fork bomb"."""
        return f"{self.number} {self.title}" if 0 < self.number < OTHER_NUMBERS else self.title

    def is_tried(self, column: str) -> bool:
        """Whether the column of this name has what it attacks."""
        return not self.only or column in self.only


def _attack(
    number: int, title: str, program: str, variants: str, drive: Drive = drives.at_once, no_control: str = ""
) -> Attack:
    """All variants have a control, but for those behind a "!"."""
    names = tuple(name.strip() for name in variants.split(";"))
    controls = tuple(name for name in names if not name.startswith("!"))
    return Attack(number, title, program, tuple(name.lstrip("!") for name in names), drive, controls, no_control)


_KERNEL = "keyctl; bpf; io_uring; perf; userfaultfd; administration; devices; kernel's files; control groups; !terminal"
ATTACKS: tuple[Attack, ...] = (
    _attack(
        1,
        "read others' code, /tmp, shards, keys",
        "a01_files",
        "named; through proc; walked; by handle; opened for writing",
    ),
    _attack(2, "look through /proc", "a02_proc", "environ; maps; fd; links; cmdline"),
    _attack(3, "take processes over", "a03_ptrace", "attach; process_vm_readv; mem; pidfd_getfd"),
    _attack(4, "signal others", "a04_signals", "named; scanned; queued; bounds; kill"),
    _attack(5, "fork bomb", "a05_forks", "plain; double; vfork; in a namespace", drives.each),
    _attack(
        6,
        "memory bomb",
        "a06_memory",
        "heap; shared; tree; /dev/shm; memfd; System V; many programs; socket buffers",
        drives.each,
    ),
    _attack(
        7,
        "disk bomb",
        "a07_disk",
        "one file; many files; inodes; sparse; reserved; for a moment; without a name; too deep; behind a door; "
        "never still; !hard to remove; !elsewhere",
        drives.disk,
        "the harness looks at what is left of it after the sandbox's end",
    ),
    _attack(
        8, "use up descriptors and threads", "a08_descriptors", "open files; stashed; inotify; threads", drives.each
    ),
    _attack(
        9,
        "talk to the fleet",
        "a09_doors",
        "gRPC without the token; metrics; path socket; abstract socket; TCP door",
    ),
    _attack(
        10,
        "reach the machine's network",
        "a10_network",
        "localhost; localhost on IPv6; the host's address; !metadata address; raw and other sockets",
        no_control="nothing is sent to the metadata address from the host's own network",
    ),
    _attack(11, "inherited descriptors", "a11_inherited", "further descriptors; of another kind"),
    _attack(
        12,
        "leave /tmp and buckets by links",
        "a12_links",
        "symbolic link; symbolic link in a bucket; hard link; dots; bucket granted for reading; "
        "packages under extraction",
        drives.links,
        "the hostile packages are the control of their own: an ordinary extractor would follow them",
    ),
    _attack(
        13,
        "become more",
        "a13_privileges",
        f"users; setuid programs; capabilities; mounts; namespaces; nested root; setns; {_KERNEL}",
        no_control="there is no terminal where the suite runs",
    ),
    _attack(
        14,
        "outlive the sandbox",
        "a14_background",
        "!past the sandbox; !into the next sandbox; !past a crash; !past a time-out",
        drives_of_life.background,
        "a plain process has no sandbox to outlive; that the daemons live is counted in the same sandbox",
    ),
    _attack(
        15,
        "answer for another invocation",
        "a15_answers",
        "!own first; !twice; !other id; !guessed ids; !ready; !init error; !unknown kind; !oversize; !garbage; "
        "!endless; !late",
        drives_of_words.answers,
        "the frames are the host's own; that they reach it, 'own first' shows",
    ),
    _attack(
        16,
        "speak as another sandbox",
        "a16_channels",
        "pidfd_getfd; through /proc; !own channel; !Runtime API",
        drives_of_words.channels,
        "a plain process has no channel; that the Runtime API answers its own sandbox, the invocation beside it shows",
    ),
    _attack(
        17,
        "poison who comes after",
        "a17_poison",
        "!another tenant; !another function; !another version; !another version after a crash; "
        "!another version, deployed before a crash; !whoever gets the seat",
        drives_of_life.poison,
        "that the program finds what it left, the same version shows after a crash",
    ),
    _attack(
        18,
        "forge logs and numbers",
        "a18_forgery",
        "!log lines; !terminal control; !error type; !numbers",
        drives_of_words.forgery,
        "there is no log and no meter without a host",
    ),
    _attack(
        19,
        "secrets where they do not belong",
        "a19_secrets",
        "!command lines; !environment; core dumps",
        drives_of_words.leaks,
        "a plain process here was started without any",
    ),
)
HOSTILE = Attack(
    0,
    "hostile handlers",
    "hostile",
    tuple(hostile.EXPECTED),
    hostile.drive,
    (),
    "an error has no opposite without a host",
)


def _looking(attack: Attack) -> tuple[str, ...]:
    """Variants that the program has itself, without those that take another tenant's sandbox beside it."""
    return tuple(name for name in attack.variants if name != "Runtime API")


SNAP_START = Attack(
    100,
    "from a SnapStart template",
    "imported",
    tuple(
        f"{attack.number} {name}{where}"
        for attack in ATTACKS
        if attack.number in snap_start.PROGRAMS
        for name in _looking(attack)
        for where in ("", snap_start.IN_A_FORK)
    ),
    snap_start.drive,
    (),
    "the same programs have theirs above",
    ("c", "c-isolated"),
)
ALL = (*ATTACKS, SNAP_START, HOSTILE)
BY_NUMBER = {attack.number: attack for attack in ALL}
