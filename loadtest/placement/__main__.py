"""`python -m loadtest.placement`: runs every row, prints the report, writes docs/placement with --save."""

import argparse
import asyncio
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from loadtest.bench import machine
from loadtest.placement import record, report
from loadtest.placement.expected import expect
from loadtest.placement.rig import make_tracer, queue_node
from loadtest.placement.run import measure
from loadtest.placement.traffic import make
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import MIN_SEEDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "placement"
MAX_SEEDS = 1_000
EXIT_DISAGREES = 1


async def run_all(variants: Sequence[Variant], seeds: int) -> list[record.Row]:
    """Every variant over so many seeds; those with as many shards share a queue process."""
    rows = []
    for shards, group in itertools.groupby(variants, lambda variant: variant.shards):
        async with queue_node(shards) as queue:
            tracer = make_tracer(queue.folder)
            for variant in group:
                runs = []
                for seed in range(seeds):
                    traffic = make(seed, variant.events, variant.batch)
                    depths = await measure(queue, variant, traffic, tracer)
                    # In a thread: the streams to the queue stay alive meanwhile.
                    fresh = await asyncio.to_thread(expect, variant, traffic, stale_events=0)
                    stale = fresh
                    if variant.stale_events:
                        stale = await asyncio.to_thread(expect, variant, traffic, stale_events=variant.stale_events)
                    runs.append(record.Run(seed, traffic.largest_quota, tuple(depths), fresh, stale))
                row = record.Row(variant, tuple(runs))
                rows.append(row)
                verdict = row.verdict
                told = f"off by {verdict.difference:.2f}, of {verdict.tolerance:.2f}"
                word = "agrees" if verdict.agrees else "DISAGREES"
                print(f"{variant.name}: {word} ({told})", file=sys.stderr, flush=True)
            tracer.shutdown()
    return rows


def _seeds(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"1 to {MAX_SEEDS} seeds, not {number}")
    return number


def main() -> int:
    """The exit code: 0, or 1 when a row is not what its policy should give."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.placement", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=MIN_SEEDS, help=f"runs of each row (default {MIN_SEEDS})")
    parser.add_argument("--only", default="", help="only rows whose name begins so, such as best_of_two")
    parser.add_argument("--save", action="store_true", help="write docs/placement/depths.json and README.md")
    given = parser.parse_args()
    variants = [variant for variant in all_variants() if variant.name.startswith(given.only)]
    if not variants:
        names = "\n  ".join(variant.name for variant in all_variants())
        parser.error(f"no row begins with {given.only!r}; there are:\n  {names}")
    rows = uvloop.run(run_all(variants, given.seeds))
    about = machine.describe_host(Path("/tmp"))
    text = report.write(about, rows)
    print(text)
    if given.save:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "depths.json").write_text(record.dump(about, rows))
        (FOLDER / "README.md").write_text(text)
    return 0 if all(row.verdict.agrees for row in rows) else EXIT_DISAGREES


if __name__ == "__main__":
    sys.exit(main())
