"""The wall clock of every service set an hour forth, an hour back, and back and forth in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.matrix import wall_clock
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.rig import Rig

HOUR_SECONDS = 3_600.0
BETWEEN_EVENTS = 800
_SHIFTS = (HOUR_SECONDS, -HOUR_SECONDS, 60.0, -60.0, 0.0)


@contextmanager
def _set_back(rig: Rig) -> Iterator[Path]:
    """The file that the services read; the true time holds again before what happened is looked at."""
    path = rig.folder / "wall-shift"
    yield path
    wall_clock.set_shift(path, 0.0)


def _jump(rig: Rig) -> None:
    for seconds in _SHIFTS:
        wall_clock.set_shift(rig.around, seconds)
        rig.notes.append(f"wall clocks {seconds:+g} s")
        rig.wait_acked(BETWEEN_EVENTS)


CELLS = (
    Cell(
        "clock-jumps",
        "no lease ends early, none sticks, no event dies of its age",
        _jump,
        around=_set_back,
        shifts_clocks=True,
        may_repeat=False,
    ),
)
