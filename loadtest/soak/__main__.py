"""`python -m loadtest.soak`: steady load for half an hour; whether memory, files, rows and latency stay flat."""

import argparse
import os
import sys
from pathlib import Path

import uvloop

from loadtest.bench import fleet_run, machine
from loadtest.bench.fleet_run import EXIT_FAILED, FleetRun, say
from loadtest.bench.options import is_set
from loadtest.soak import report
from loadtest.soak.judge import judge
from loadtest.soak.measure import measure
from loadtest.soak.plan import SoakPlan
from loadtest.soak.watch import Sample

NAME = "soak"
FOLDER = fleet_run.ROOT / "docs" / "reliability"


async def soak(run: FleetRun, plan: SoakPlan, saves: bool) -> int:
    """Measure, judge, print, publish; the exit code."""
    say(
        f"{plan.minutes:g} minutes at {plan.rate:g} events/s; what is kept is full within the first "
        f"{plan.warm_up_seconds:.0f} s, and judged is what comes then"
    )

    def told(sample: Sample) -> None:
        say(report.line(sample))

    found = await measure(plan, run.folder, told)
    judged = judge(found)
    about = run.machine()
    page = report.as_markdown(found, judged, machine.in_words(about), run.notes())
    print(page)
    for one in judged.not_flat:
        say(f"not flat: {one.name}: {one.figure}; allowed: {one.bound}. Look at: {one.look_at}")
    if judged.latency_void:
        say(f"latency not judged: {judged.latency_void}")
    facts = report.as_json(found, judged, about, run.notes())
    # Beside the logs, for whoever looks for a cause.
    Path(run.folder / "soak.json").write_text(fleet_run.as_text(facts))
    if saves:
        fleet_run.publish(NAME, facts, page, FOLDER)
        report.plot(found, FOLDER / f"{NAME}.svg")
    return EXIT_FAILED if judged.not_flat else 0


def main() -> int:
    """0: flat; 1: not flat, or the run broke; 2: options that make no run; 130: interrupted."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    usual = SoakPlan()
    parser.add_argument("--minutes", type=float, default=usual.minutes, help=f"of load (default {usual.minutes:g})")
    parser.add_argument("--rate", type=float, default=usual.rate, help=f"events a second (default {usual.rate:g})")
    parser.add_argument(
        "--sample-seconds", type=float, default=usual.sample_seconds, help=f"between looks ({usual.sample_seconds:g})"
    )
    parser.add_argument("--save", action="store_true", help="write docs/reliability/soak.json, .md and .svg (SAVE=1)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data, logs and soak.json")
    given = parser.parse_args()
    try:
        plan = SoakPlan(given.minutes, given.rate, given.sample_seconds)
    except ValueError as e:
        parser.error(str(e))
    saves = given.save or is_set(os.environ, "SAVE")
    return uvloop.run(fleet_run.run_to_end(NAME, lambda run: soak(run, plan, saves), keeps_data=given.keep))


if __name__ == "__main__":
    sys.exit(main())
