"""`python -m tests.faults.power_loss` (`make crash`): record, cut the power, look; healthy nodes and mutants."""

import argparse
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.faults.power_loss import report
from tests.faults.power_loss.recorder import NoCompiler, compile_recorder
from tests.faults.power_loss.recording import NodeFailed
from tests.faults.power_loss.replay import FOLDER_PREFIX, fast_folder
from tests.faults.power_loss.rows import Plan, Row, plans, run

STATES = 10_000
MAX_STATES = 10_000_000
NICENESS = 5
EXIT_WRONG, EXIT_UNUSABLE = 1, 2


def main(arguments: list[str]) -> int:
    """Exit code: 0, 1 (a promise was broken or a mutant missed), 2 (it cannot run here, or as asked)."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--states", type=int, default=STATES, help=f"of the healthy node ({STATES:,})")
    parser.add_argument("--seed", type=int, default=1, help="the first one; the others follow")
    parser.add_argument("--only", default="", help="one row: healthy, or a mutant's name")
    parser.add_argument("--save", action="store_true", help="write docs/reliability/power_loss.json and .md (SAVE=1)")
    given = parser.parse_args(arguments)
    if not 1 <= given.states <= MAX_STATES:
        parser.error(f"--states must be within 1 to {MAX_STATES:,}")
    saves = given.save or os.environ.get("SAVE") == "1"
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=fast_folder()))
    try:
        chosen = plans(given.states, given.seed, given.only)
        rows = uvloop.run(_run_all(chosen, compile_recorder(folder), folder))
    except (NoCompiler, NodeFailed, TimeoutError, ValueError) as e:
        print(f"crash: {e or 'a recorded node did not answer in time'}", file=sys.stderr)
        return EXIT_UNUSABLE
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(report.table(rows))
    wrong = [row for row in rows if not row.is_right]
    for row in wrong:
        print(f"\n{row.plan.name}: {row.verdict}", *row.tally.samples, sep="\n  ")
    if saves:
        report.save(rows, f"make crash ARGS='{shlex.join(arguments)}'" if arguments else "make crash")
    return EXIT_WRONG if wrong else 0


async def _run_all(chosen: list[Plan], library: Path, folder: Path) -> list[Row]:
    # In one loop: gRPC does not like it when another follows.
    rows: list[Row] = []
    for plan in chosen:
        print(f"{plan.name}: {plan.states:,} states of seeds {plan.seeds[0]} to {plan.seeds[-1]}", file=sys.stderr)
        rows.append(await run(plan, library, folder))
    return rows


if __name__ == "__main__":
    os.nice(NICENESS)
    sys.exit(main(sys.argv[1:]))
