"""`python -m tests.faults.matrix` (`make faults`): every cell of the matrix under some seeds, or one."""

import argparse
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.faults.matrix import jobs, report
from tests.faults.matrix.cell import Result
from tests.faults.matrix.cells import CELLS, QUICK
from tests.faults.matrix.mutants import CAUGHT_BY

EVENTS, SEEDS = 10_000, 5
MAX_EVENTS, MAX_SEEDS, MAX_JOBS = 100_000, 100, 8
EXIT_BROKEN, EXIT_INTERRUPTED = 1, 130


def main(arguments: list[str]) -> int:
    """0; 1: an invariant broke, or a mutant was not caught; 130: Ctrl-C."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--cell", action="append", choices=sorted(CELLS), help="only this one (CELL=name)")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--seed", type=int, default=0, help="only this one (SEED=3)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many, from 1 on (SEEDS={SEEDS})")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"of a cell (EVENTS={EVENTS})")
    parser.add_argument(
        "--jobs", type=int, default=1, help="cells at a time, but for those that judge by the clock (JOBS=2)"
    )
    parser.add_argument("--mutants", action="store_true", help="each mutant against its cell (MUTANTS=1)")
    parser.add_argument("--mutant", choices=sorted(CAUGHT_BY), help="only this one")
    parser.add_argument("--save", action="store_true", help="write docs/reliability/matrix.json and .md (SAVE=1)")
    parser.add_argument("--again", action="store_true", help="run saved cells again (AGAIN=1)")
    given = parser.parse_args(arguments)
    if not (1 <= given.events <= MAX_EVENTS and 1 <= given.seeds <= MAX_SEEDS and 1 <= given.jobs <= MAX_JOBS):
        parser.error(f"1 to {MAX_EVENTS:,} events, 1 to {MAX_SEEDS} seeds and 1 to {MAX_JOBS} jobs are possible")
    # Whoever ends this ends its fleet with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = list(_jobs(given))
    piece = report.Piece(f"make faults ARGS='{shlex.join(arguments)}'" if arguments else "make faults")
    saved = report.load() if given.save else report.Saved()
    if not given.again:
        asked = [job for job in asked if not saved.has(*job)]
    results: list[Result] = []
    logs = Path(tempfile.mkdtemp(prefix="evenflow-faults-", dir="/tmp"))
    print(report.HEADING, flush=True)
    try:
        with closing(jobs.results(asked, given.jobs, logs)) as made:
            for result in made:
                results.append(result)
                print(report.line(result), *(f"  {words}" for words in report.told(result)), sep="\n", flush=True)
                if given.save:
                    saved.add(result, piece)
                    report.save(saved)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if not any(logs.iterdir()):
            logs.rmdir()
    wrong = [one for one in results if report.is_wrong(one)]
    (found := logs.parent / f"{logs.name}.json").write_text(report.as_json(results, piece))
    print(f"\n{len(results)} cells, {len(wrong)} wrong; {found}")
    if wrong:
        print(f"their logs: {logs}")
    return EXIT_BROKEN if wrong else 0


def _jobs(given: argparse.Namespace) -> Iterator[jobs.Job]:
    if given.mutants or given.mutant:
        for mutant, cell in CAUGHT_BY.items():
            if given.mutant in (None, mutant):
                yield cell, given.seed or 1, given.events, mutant
        return
    chosen = given.cell or (QUICK if given.quick else [name for name, cell in CELLS.items() if not cell.is_long])
    # A run that is stopped has something of every cell.
    for seed in [given.seed] if given.seed else range(1, 1 + given.seeds):
        for name in chosen:
            yield name, seed, int(CELLS[name].load.get("events", given.events)), ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
