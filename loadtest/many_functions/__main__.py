"""`python -m loadtest.many_functions`: 1,000 functions invoked in turn on a fleet with memory for 50 sandboxes."""

import argparse
import os
import sys
from contextlib import AsyncExitStack

import uvloop

from loadtest.bench import fleet_run, machine
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.bench.fleet_run import FleetRun, say
from loadtest.bench.options import is_set
from loadtest.many_functions import report, scenario
from loadtest.many_functions.scenario import Sizes

MAX_FUNCTIONS = 8_000


async def measure(run: FleetRun, sizes: Sizes, saves: bool) -> int:
    """Measure, print, and publish what is as it must be; 1: it is not."""
    async with AsyncExitStack() as stack:
        settings = ("--set", f"runtime.memory_mb={sizes.budget_mb}")
        fleet = await EvenflowFleet.started(stack, run.folder / "fleet", 0, settings)
        found = await scenario.run(fleet, sizes, say)
        notes = run.notes()
    about = run.machine()
    page = report.as_markdown(sizes, found, machine.in_words(about), notes)
    print(page)
    problems = report.failures(sizes, found)
    for problem in problems:
        say(f"error: {problem}")
    if saves and not problems:
        fleet_run.publish("many_functions", report.as_json(sizes, found, about, notes), page)
    return fleet_run.EXIT_FAILED if problems else 0


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make many-functions", description=__doc__)
    parser.add_argument("--functions", type=int, default=1_000)
    parser.add_argument("--sandboxes", type=int, default=50, help="the memory budget, in sandboxes of 128 MB")
    parser.add_argument("--rounds", type=int, default=5, help="how often each function is invoked")
    parser.add_argument("--in-flight", type=int, default=16, help="invocations at once")
    parser.add_argument("--save", action="store_true", help="write docs/benchmarks/many_functions.* (SAVE=1)")
    given = parser.parse_args()
    if not 1 <= given.functions <= MAX_FUNCTIONS or min(given.sandboxes, given.rounds, given.in_flight) < 1:
        parser.error(f"--functions must be within 1 to {MAX_FUNCTIONS:,}, the other numbers at least 1")
    sizes = Sizes(given.functions, given.sandboxes, given.rounds, given.in_flight)
    saves = given.save or is_set(os.environ, "SAVE")
    return uvloop.run(fleet_run.run_to_end("many", lambda run: measure(run, sizes, saves)))


if __name__ == "__main__":
    sys.exit(main())
