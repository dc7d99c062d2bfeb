"""`python -m loadtest.many_functions`: 1,000 functions invoked in turn on a fleet with memory for 50 sandboxes."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from loadtest.bench import machine
from loadtest.bench.bystanders import Bystanders
from loadtest.bench.evenflow_fleet import EvenflowFleet
from loadtest.many_functions import report, scenario
from loadtest.many_functions.scenario import Sizes

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_FOLDER = ROOT / "docs" / "benchmarks"
MAX_FUNCTIONS = 8_000
EXIT_INTERRUPTED = 130


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


async def run(sizes: Sizes, saves: bool) -> int:
    """Measure and publish; Ctrl-C ends what was started."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="evenflow-many-", dir="/tmp"))
    bystanders, began = Bystanders(), time.monotonic()
    fleet = EvenflowFleet(folder, 0, ("--set", f"runtime.memory_mb={sizes.budget_mb}"))
    try:
        await fleet.start()
        found = await scenario.run(fleet, sizes, say)
        notes = [bystanders.note(), f"run of {time.monotonic() - began:.0f} s"]
        about = machine.describe_host(folder)
    except asyncio.CancelledError:
        say("interrupted; everything that was started has ended")
        return EXIT_INTERRUPTED
    finally:
        await fleet.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    page = report.as_markdown(
        sizes,
        found,
        f"{about['time']}, commit {about['commit']}: {about['cpu']}, {about['cores']} cores, {about['memory_mib']} MiB"
        f", {about['file_system']}, Python {about['python']}",
        notes,
    )
    print(page)
    problems = report.failures(sizes, found)
    for problem in problems:
        say(f"error: {problem}")
    if saves and not problems:
        told = json.dumps(report.as_json(sizes, found, dict(about), notes), indent=1) + "\n"
        (PUBLISHED_FOLDER / "many_functions.json").write_text(told)
        (PUBLISHED_FOLDER / "many_functions.md").write_text(page)
        say(f"written: {PUBLISHED_FOLDER.relative_to(ROOT)}/many_functions.json and many_functions.md")
    return 1 if problems else 0


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
    return uvloop.run(run(sizes, given.save or os.environ.get("SAVE", "") in ("1", "true", "yes", "on")))


if __name__ == "__main__":
    sys.exit(main())
