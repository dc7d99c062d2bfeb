"""What a cell of the matrix is: a fault, how the fleet is set up for it, and what came out."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.matrix.rig import Rig

# Called in the middle of the load; returns when the fault is over and healed. What it learns goes into `rig.notes`.
Inject = Callable[["Rig"], None]


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault. name: as `make faults CELL=name` takes it; expected: what faults.md promises, in words.

    around: entered before the load begins and left after the drain; what it gives is `rig.around`.
    shifts_clocks: the services' wall clocks follow a file, see wall_clock.
    settings, arguments, environment: of the fleet. load: of the client, over what the run was asked for (fields of
    client.Load). function: keys of the deploy file. may_repeat: the fault explains events that run twice. needs:
    says what this machine lacks for it, "" when nothing. bound_seconds: how soon a node that died has to serve again.
    """

    name: str
    expected: str
    inject: Inject
    around: Callable[["Rig"], AbstractContextManager[Any]] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)
    function: Mapping[str, Any] = field(default_factory=dict)
    may_repeat: bool = True
    shifts_clocks: bool = False
    needs: Callable[[], str] = str
    bound_seconds: float = 0.0
    drain_seconds: float = 90.0


@dataclass(slots=True)
class Result:
    """One cell under one seed; what the JSON has of it."""

    fault: str
    seed: int
    events: int
    acked: int
    lost: int
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

    @property
    def holds(self) -> bool:
        """Whether every invariant held."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)
