"""`python -m loadtest.growth`: a fleet with 10 million queued events, or 10,000 functions, beside one with a few."""

import argparse
import os
import sys
from contextlib import AsyncExitStack
from typing import Any

import uvloop

from loadtest.bench import fleet_run, machine
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.fleet_run import FleetRun, say
from loadtest.bench.options import is_set
from loadtest.bench.results import Results
from loadtest.growth import backlog, functions, report
from loadtest.growth.report import Comparison

MIN_EVENTS = 20_000
MAX_EVENTS = 50_000_000
# As many as a poller lets be paused, and the one that runs.
MIN_FUNCTIONS, MAX_FUNCTIONS = 20, 10_001
FEW_FUNCTIONS = 10


async def measure_backlog(run: FleetRun, sizes: backlog.Sizes, saves: bool) -> int:
    """Queued events."""
    results = Results()
    async with AsyncExitStack() as stack:
        fleet = await EvenflowFleet.started(stack, run.folder / "fleet")
        await backlog.Growth(fleet, sizes, results, say).run()
        gibibytes = backlog.folder_bytes(run.folder) / (1 << 30)
        results.notes.append(f"shard files and logs: {gibibytes:.1f} GiB")
    asked = {"events": sizes.events, "delayed": sizes.delayed, "repeats": sizes.repeats}
    return _tell(run, backlog.COMPARISON, results, asked, "growth" if saves else None)


async def measure_functions(run: FleetRun, sizes: functions.Sizes, saves: bool) -> int:
    """Deployed functions."""
    results = Results()
    await functions.run(run.folder, sizes, results, say)
    asked = {"few": sizes.few, "many": sizes.many, "repeats": sizes.repeats}
    return _tell(run, functions.COMPARISON, results, asked, "growth_functions" if saves else None)


def _tell(run: FleetRun, comparison: Comparison, results: Results, asked: dict[str, Any], save_as: str | None) -> int:
    results.notes += run.notes()
    about = run.machine()
    page = report.as_markdown(comparison, results, machine.in_words(about))
    print(page)
    if save_as:
        facts = report.as_json(comparison, results, about, {**asked, "seconds": round(run.seconds)})
        fleet_run.publish(save_as, facts, page)
    return 0


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make growth", description=__doc__)
    parser.add_argument(
        "of", nargs="?", choices=("backlog", "functions"), default="backlog", help="what there is more of"
    )
    parser.add_argument("--events", type=int, default=10_000_000, help="backlog: how deep")
    parser.add_argument("--delayed", type=int, default=1_000_000, help="backlog: delayed events beside them")
    parser.add_argument("--functions", type=int, default=10_000, help="functions: how many")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write docs/benchmarks/growth*.json and .md (SAVE=1)")
    given = parser.parse_args()
    if not MIN_EVENTS <= given.events <= MAX_EVENTS or not 0 <= given.delayed <= MAX_EVENTS:
        parser.error(f"--events must be within {MIN_EVENTS:,} to {MAX_EVENTS:,}, --delayed at most {MAX_EVENTS:,}")
    if not MIN_FUNCTIONS <= given.functions <= MAX_FUNCTIONS:
        parser.error(f"--functions must be within {MIN_FUNCTIONS} to {MAX_FUNCTIONS:,}")
    saves = given.save or is_set(os.environ, "SAVE")
    if given.of == "backlog":
        deep = backlog.Sizes(given.events, given.delayed, repeats=given.repeats)
        return uvloop.run(fleet_run.run_to_end("growth", lambda run: measure_backlog(run, deep, saves)))
    many = functions.Sizes(FEW_FUNCTIONS, given.functions, repeats=given.repeats)
    return uvloop.run(fleet_run.run_to_end("growth", lambda run: measure_functions(run, many, saves)))


if __name__ == "__main__":
    sys.exit(main())
