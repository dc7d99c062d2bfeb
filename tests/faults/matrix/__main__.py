"""`python -m tests.faults.matrix` (`make faults`)."""

import argparse
import sys

from tests.faults.matrix.cells import CELLS
from tests.faults.matrix.run import run

EVENTS = 10_000


def main() -> int:
    """0, or 1 when an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.matrix", description=__doc__)
    parser.add_argument("--cell", action="append", choices=sorted(CELLS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--mutant", default="")
    given = parser.parse_args()
    good = True
    for name in given.cell or CELLS:
        for seed in given.seeds:
            result = run(CELLS[name], seed, given.events, given.mutant)
            print(result.as_json(), flush=True)
            good = good and result.holds
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
