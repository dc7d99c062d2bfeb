"""`python -m loadtest.placement`: runs every row, prints the report, writes docs/placement with --save."""

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvloop

from loadtest.bench import machine
from loadtest.placement import record, report
from loadtest.placement.rig import make_tracer, queue_node
from loadtest.placement.run import Measured, measure
from loadtest.placement.simulated import other_draws, same_draws, stale_events, swapped
from loadtest.placement.variants import Variant, all_variants
from loadtest.placement.verdict import MIN_SEEDS
from loadtest.simulate.traffic import Traffic, make

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "placement"
MAX_SEEDS = 1_000
# What a run that is stopped may lose.
PART_SEEDS = 10
EXIT_DISAGREES = 1


async def run_all(
    variants: Sequence[Variant],
    seeds: int,
    known: Mapping[Variant, record.Row],
    done: Callable[[record.Row, bool], None],
) -> None:
    """Every variant over so many seeds; those with as many shards share a queue process.

    known: recorded rows; their seeds are not run again. `done` gets each row, and each PART_SEEDS of it before.
    """
    for shards, group in itertools.groupby(variants, lambda variant: variant.shards):
        async with queue_node(shards) as queue:
            tracer = make_tracer(queue.folder)
            for variant in group:
                before = known.get(variant)
                runs = {run.seed: run for run in before.runs} if before else {}
                missing = [seed for seed in range(variant.seeds(seeds)) if seed not in runs]
                measured = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} commit {machine.commit()}"
                if before:
                    measured = f"{before.measured}; {len(missing)} seeds {measured}" if missing else before.measured
                for number, seed in enumerate(missing, 1):
                    traffic = make(seed, variant.events, batch=variant.batch)
                    found = await measure(queue, variant, traffic, tracer)
                    # In a thread: the streams to the queue stay alive meanwhile.
                    runs[seed] = await asyncio.to_thread(compare, variant, traffic, found)
                    if number % PART_SEEDS == 0:
                        done(record.Row(variant, tuple(runs.values()), measured), False)
                done(record.Row(variant, tuple(runs.values()), measured), True)
            tracer.shutdown()


def compare(variant: Variant, traffic: Traffic, found: Measured) -> record.Run:
    """What the fleet did beside what the simulator says of the same traffic."""
    stale = stale_events(variant, found.unknown_events)
    others = other_draws(variant, traffic, stale)
    return record.Run(
        traffic.seed,
        traffic.largest_part,
        tuple(found.depths),
        tuple(same_draws(variant, traffic, stale)),
        record.Independent(statistics.fmean(others), statistics.pvariance(others)),
        round(found.unknown_events, 3),
        {} if variant.is_plain else swapped(variant, traffic, stale),
    )


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
        help=f"runs of each row (default {MIN_SEEDS}); more where chance is large",
    )
    parser.add_argument(
        "--only", default="", help="only rows whose name has this in it, such as best_of_two or '100 shards'"
    )
    parser.add_argument("--more", action="store_true", help="keep what is recorded; run only seeds that are missing")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the record is (default docs/placement)")
    parser.add_argument("--save", action="store_true", help="write depths.json and README.md there")
    given = parser.parse_args()
    variants = [variant for variant in all_variants() if given.only in variant.name]
    if not variants:
        names = "\n  ".join(variant.name for variant in all_variants())
        parser.error(f"no row has {given.only!r}; there are:\n  {names}")
    if given.save and given.seeds < MIN_SEEDS:
        parser.error(f"--save needs {MIN_SEEDS} seeds at least")
    path: Path = given.folder / "depths.json"
    known = {row.variant: row for row in record.load(path.read_text())} if path.exists() else {}
    about = machine.describe_host(Path("/tmp"))
    fresh: list[record.Row] = []

    def done(row: record.Row, is_complete: bool) -> None:
        if is_complete:
            print(f"{row.variant.name}: {row.verdict.text}", file=sys.stderr, flush=True)
            fresh.append(row)
        known[row.variant] = row
        if given.save:
            # A run that is stopped keeps what it has.
            rows = [known[variant] for variant in all_variants() if variant in known]
            given.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(record.dump(about, rows))
            (given.folder / "README.md").write_text(report.write(about, rows))

    uvloop.run(run_all(variants, given.seeds, dict(known) if given.more else {}, done))
    print(report.write(about, fresh))
    return 0 if all(row.verdict.agrees for row in fresh) else EXIT_DISAGREES


if __name__ == "__main__":
    sys.exit(main())
