"""`python -m loadtest.placement`: runs every row, prints the report, writes docs/placement with --save."""

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from loadtest.bench import machine
from loadtest.placement import record, report
from loadtest.placement.rig import make_tracer, queue_node
from loadtest.placement.run import measure
from loadtest.placement.simulated import other_draws, same_draws
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import MIN_SEEDS
from loadtest.simulate.traffic import make

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "placement"
MAX_SEEDS = 1_000
EXIT_DISAGREES = 1


async def run_all(variants: Sequence[Variant], seeds: int, done: Callable[[record.Row], None]) -> None:
    """Every variant over so many seeds; those with as many shards share a queue process. `done` gets each row."""
    for shards, group in itertools.groupby(variants, lambda variant: variant.shards):
        async with queue_node(shards) as queue:
            tracer = make_tracer(queue.folder)
            for variant in group:
                measured = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} commit {machine.commit()}"
                runs = []
                for seed in range(variant.seeds(seeds)):
                    traffic = make(seed, variant.events, batch=variant.batch)
                    depths = await measure(queue, variant, traffic, tracer)
                    # In a thread: the streams to the queue stay alive meanwhile.
                    simulated = await asyncio.to_thread(same_draws, variant, traffic)
                    others = await asyncio.to_thread(other_draws, variant, traffic)
                    independent = record.Independent(statistics.fmean(others), statistics.pvariance(others))
                    runs.append(record.Run(seed, traffic.largest_part, tuple(depths), tuple(simulated), independent))
                done(record.Row(variant, tuple(runs), measured))
            tracer.shutdown()


def _seeds(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_SEEDS:
        raise argparse.ArgumentTypeError(f"1 to {MAX_SEEDS} seeds, not {number}")
    return number


def main() -> int:
    """The exit code: 0, or 1 when a row is not what its policy should give."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.placement", description=__doc__)
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=MIN_SEEDS,
        help=f"runs of each row (default {MIN_SEEDS})",
    )
    parser.add_argument(
        "--only", default="", help="only rows whose name has this in it, such as best_of_two or '100 shards'"
    )
    parser.add_argument("--save", action="store_true", help="write docs/placement/depths.json and README.md")
    given = parser.parse_args()
    variants = [variant for variant in all_variants() if given.only in variant.name]
    if not variants:
        names = "\n  ".join(variant.name for variant in all_variants())
        parser.error(f"no row has {given.only!r}; there are:\n  {names}")
    path = FOLDER / "depths.json"
    known = {row.variant: row for row in record.load(path.read_text())} if given.save and path.exists() else {}
    about = machine.describe_host(Path("/tmp"))
    fresh: list[record.Row] = []

    def done(row: record.Row) -> None:
        verdict = row.verdict
        told = f"{verdict.measured:.2f} events, simulated {verdict.simulated:.2f}, {verdict.difference:+.1%}"
        print(
            f"{row.variant.name}: {'agrees' if verdict.agrees else 'DISAGREES'} ({told})", file=sys.stderr, flush=True
        )
        fresh.append(row)
        known[row.variant] = row
        if given.save:
            # After each row: a run that is stopped keeps what it has.
            rows = [known[variant] for variant in all_variants() if variant in known]
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(record.dump(about, rows))
            (FOLDER / "README.md").write_text(report.write(about, rows))

    uvloop.run(run_all(variants, given.seeds, done))
    print(report.write(about, fresh))
    return 0 if all(row.verdict.agrees for row in fresh) else EXIT_DISAGREES


if __name__ == "__main__":
    sys.exit(main())
