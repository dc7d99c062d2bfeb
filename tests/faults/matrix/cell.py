"""What a cell of the matrix is: a fault, how the fleet is set up for it, and what came out."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.matrix.history import History
    from tests.faults.matrix.rig import Rig

# Called in the middle of the load; returns when the fault is over and healed. What it learns goes into `rig.notes`.
Inject = Callable[["Rig"], None]
# How the note begins of a delay that says nothing, as the machine was busy before.
NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault. name: as `make faults CELL=name` takes it; expected: what faults.md promises, in words.

    before: entered before the fleet starts and left once it has ended. around: entered before the load begins and left
    after the drain; what it gives is `rig.around`. judge: looks at the whole history for what the fault promises
    besides, and puts it into `rig.notes` and `rig.broken`.
    shifts_clocks: the services' wall clocks follow a file, see wall_clock.
    has_faulty_disk: one queue node runs on faulty_disk.c. version_step: the fleet runs from a folder of two versions,
    see releases; `before` says which one it starts with. settings, arguments: of the fleet. load: of the client, over
    what the run was asked for (fields of client.Load). function: keys of the deploy file. may_repeat: the fault
    explains events that run twice. needs: says what this machine lacks for it, "" when nothing. bound_seconds: how
    soon a node that died has to serve again. judges_delays: what `judge` looks at is spoiled by other work on the
    machine. is_long: run by name only.
    """

    name: str
    expected: str
    inject: Inject
    before: Callable[["Rig"], AbstractContextManager[Any]] | None = None
    around: Callable[["Rig"], AbstractContextManager[Any]] | None = None
    judge: Callable[["Rig", "History"], None] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    load: Mapping[str, Any] = field(default_factory=dict)
    function: Mapping[str, Any] = field(default_factory=dict)
    may_repeat: bool = True
    shifts_clocks: bool = False
    has_faulty_disk: bool = False
    version_step: str = ""
    needs: Callable[[], str] = str
    bound_seconds: float = 0.0
    drain_seconds: float = 90.0
    judges_delays: bool = False
    is_long: bool = False

    @property
    def is_timed(self) -> bool:
        """Whether it needs the machine to itself."""
        return self.judges_delays or self.bound_seconds > 0


@dataclass(slots=True)
class Result:
    """One cell under one seed; what the JSON has of it."""

    fault: str
    seed: int
    # What was asked for, and what the client sent by the time the fault was over.
    asked: int
    events: int
    acked: int
    lost: int
    named_lost: int
    unexpected: int
    duplicated: int
    recovered: int
    refused: int
    stale_settles: int
    stale_accepted: int
    recovery_seconds: float | None
    seconds: float
    broken: list[str]
    notes: list[str]
    mutant: str = ""
    # Why it was not run here; "" when it was.
    skipped: str = ""

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)
