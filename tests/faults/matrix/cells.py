"""All cells of the matrix, by name."""

from tests.faults.matrix import backlogs, clocks, crowds, disks, files, kills, loads, networks, restarts
from tests.faults.matrix.cell import Cell

CELLS: dict[str, Cell] = {
    cell.name: cell
    for module in (loads, kills, restarts, backlogs, networks, clocks, disks, files, crowds)
    for cell in module.CELLS
}
# What `make test` runs: the rest is a matter of minutes each.
QUICK = ("kill-queue-after-commit",)
# Rows of faults.md that another suite of this project has.
ELSEWHERE = {
    "power loss, torn write": "make crash, docs/reliability/power_loss.md",
    "an old or foreign copy of a shard's file, a damaged page": (
        "tests/unit/queue/test_damage_at_start.py, tests/e2e/test_shard_tools.py"
    ),
    "hostile handler, hostile zip": "make attacks, docs/isolation.md",
    "any HTTP request that nobody would send": "make fuzz-http",
    "a shard that moves while nodes die": "tests/integration/queue/test_moves.py",
}
