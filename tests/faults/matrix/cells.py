"""All cells of the matrix, by name."""

from tests.faults.matrix import kills, loads, networks
from tests.faults.matrix.cell import Cell

CELLS: dict[str, Cell] = {cell.name: cell for cell in (*loads.CELLS, *kills.CELLS, *networks.CELLS)}
# What `make test` runs: one of each kind, together within two minutes.
QUICK = ("healthy", "kill-queue-after-commit", "freeze-poller", "answers-lost-queue")
