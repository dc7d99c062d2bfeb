"""`python -m loadtest.fair_share`: a flood beside a bystander, over some seeds; writes docs/fairness with --save."""

import argparse
import shlex
import sys
from pathlib import Path

import uvloop

from loadtest.bench import machine
from loadtest.fair_share import report
from loadtest.fair_share.measure import Result, measure
from loadtest.fair_share.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "fairness"
EXIT_MISSED = 1
MAX_SLOTS, MAX_SECONDS, MAX_SEEDS = 128, 3_600.0, 100
# How its quiet tenants share the background: the bystander has a larger part, so that its p99 means something.
BYSTANDER_PART = 0.125


async def run_all(plan: Plan, seeds: list[int], up_arguments: tuple[str, ...]) -> list[Result]:
    """Each seed on a fleet of its own."""
    results = []
    for seed in seeds:
        result = await measure(plan, seed, up_arguments)
        results.append(result)
        base, flood = result.baseline.bystander, result.flood.bystander
        print(f"seed {seed}: p99 {base.p99_ms:.1f} -> {flood.p99_ms:.1f} ms, {result.ratio:.2f}", file=sys.stderr)
    return results


def main() -> int:
    """The exit code: 0, or 1 when the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.fair_share", description=__doc__)
    parser.add_argument("--seeds", type=int, default=report.MIN_SEEDS, help="how many (default 3)")
    parser.add_argument("--first-seed", type=int, default=1)
    usual = Plan()
    parser.add_argument("--slots", type=int, default=usual.slots, help="handlers at once (default 16: 320 events/s)")
    parser.add_argument("--seconds", type=float, default=usual.flood_seconds, help="of each phase (default 40)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="handed to `evenflow up`")
    parser.add_argument("--save", action="store_true", help="write docs/fairness/report.json and report.md")
    given = parser.parse_args()
    if not (1 <= given.slots <= MAX_SLOTS and 1 <= given.seconds <= MAX_SECONDS and 1 <= given.seeds <= MAX_SEEDS):
        parser.error(f"1 to {MAX_SLOTS} slots, 1 to {MAX_SECONDS:g} seconds and 1 to {MAX_SEEDS} seeds are possible")
    capacity = Plan(slots=given.slots).capacity_per_second
    plan = Plan(
        slots=given.slots,
        bystander_per_second=capacity * BYSTANDER_PART,
        baseline_seconds=given.seconds,
        flood_seconds=given.seconds,
    )
    up_arguments = tuple(word for pair in given.set for word in ("--set", pair))
    about = machine.describe_host(Path("/tmp"))
    about["command"] = shlex.join(["python", "-m", "loadtest.fair_share", *sys.argv[1:]])
    seeds = [given.first_seed + number for number in range(given.seeds)]
    results = uvloop.run(run_all(plan, seeds, up_arguments))
    text = report.as_text(about, plan, results)
    print(text)
    if given.save:
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / "report.json").write_text(report.as_json(about, plan, results))
        notes = FOLDER / "changes.md"
        (FOLDER / "report.md").write_text(text + ("\n" + notes.read_text() if notes.exists() else ""))
    return 0 if report.ratio(results) <= report.GOAL else EXIT_MISSED


if __name__ == "__main__":
    sys.exit(main())
