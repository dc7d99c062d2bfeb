"""`python -m loadtest.growth`: 10 million events in a fleet's queue, measured beside a few in the same fleet."""

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
from loadtest.bench.results import Results
from loadtest.growth import report
from loadtest.growth.scenario import Growth, Sizes, folder_bytes

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_FOLDER = ROOT / "docs" / "benchmarks"
MIN_EVENTS = 20_000
MAX_EVENTS = 50_000_000
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
    folder = Path(tempfile.mkdtemp(prefix="evenflow-growth-", dir="/tmp"))
    results, bystanders, began = Results(), Bystanders(), time.monotonic()
    fleet = EvenflowFleet(folder, 0)
    try:
        await fleet.start()
        await Growth(fleet, sizes, results, say).run()
        results.notes.append(f"shard files and logs: {folder_bytes(folder) / (1 << 30):.1f} GiB")
        results.notes.append(bystanders.note())
        about = machine.describe_host(folder)
        seconds = time.monotonic() - began
        results.notes.append(f"run of {seconds:.0f} s")
    except asyncio.CancelledError:
        say("interrupted; everything that was started has ended")
        return EXIT_INTERRUPTED
    finally:
        await fleet.stop()
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    asked = {"events": sizes.events, "delayed": sizes.delayed, "repeats": sizes.repeats, "seconds": round(seconds)}
    told = json.dumps(report.as_json(results, dict(about), asked), indent=1) + "\n"
    page = report.as_markdown(
        results,
        f"{about['time']}, commit {about['commit']}: {about['cpu']}, {about['cores']} cores, {about['memory_mib']} MiB"
        f", {about['file_system']}, Python {about['python']}, SQLite {about['evenflow_sqlite']}",
    )
    print(page)
    if saves:
        (PUBLISHED_FOLDER / "growth.json").write_text(told)
        (PUBLISHED_FOLDER / "growth.md").write_text(page)
        say(f"written: {PUBLISHED_FOLDER.relative_to(ROOT)}/growth.json and growth.md")
    return 0


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="make growth", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000, help="how deep")
    parser.add_argument("--delayed", type=int, default=1_000_000, help="delayed events beside them")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write docs/benchmarks/growth.json and .md (SAVE=1)")
    given = parser.parse_args()
    if not MIN_EVENTS <= given.events <= MAX_EVENTS or not 0 <= given.delayed <= MAX_EVENTS:
        parser.error(f"--events must be within {MIN_EVENTS:,} to {MAX_EVENTS:,}, --delayed at most {MAX_EVENTS:,}")
    sizes = Sizes(given.events, given.delayed, repeats=given.repeats)
    return uvloop.run(run(sizes, given.save or os.environ.get("SAVE", "") in ("1", "true", "yes", "on")))


if __name__ == "__main__":
    sys.exit(main())
