"""What a run of the bench is asked to do, from its arguments and the environment."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MIN_REPEATS = 1
MAX_REPEATS = 50
_TRUE = {"1", "true", "yes", "on"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """Events of each stretch, of one repeat; multiples of 100 where batches are sent."""

    accept_http: int
    accept_batches: int
    accept_one_caller: int
    accept_peer: int
    end_to_end_batches: int
    end_to_end_http: int
    end_to_end_peer: int
    idle_samples: int
    cold_functions: int
    warm_sandboxes: int
    warm_invokes: int
    host_events: int
    node_events: int
    idle_seconds: float


FULL_SIZES = Sizes(
    accept_http=20_000,
    accept_batches=60_000,
    accept_one_caller=1_000,
    accept_peer=8_000,
    end_to_end_batches=30_000,
    end_to_end_http=15_000,
    end_to_end_peer=5_000,
    idle_samples=60,
    cold_functions=40,
    warm_sandboxes=500,
    warm_invokes=1_000,
    host_events=20_000,
    node_events=100_000,
    idle_seconds=5.0,
)
QUICK_SIZES = Sizes(
    accept_http=10_000,
    accept_batches=30_000,
    accept_one_caller=500,
    accept_peer=4_000,
    end_to_end_batches=15_000,
    end_to_end_http=8_000,
    end_to_end_peer=3_000,
    idle_samples=40,
    cold_functions=12,
    warm_sandboxes=100,
    warm_invokes=400,
    host_events=8_000,
    node_events=50_000,
    idle_seconds=2.0,
)
FULL_REPEATS = 5
QUICK_REPEATS = 1


@dataclass(frozen=True, slots=True)
class Options:
    """One run: how often, how much, with whom, and whether its figures are to be published."""

    is_quick: bool
    saves: bool
    repeats: int
    with_peers: bool
    # Nothing but a runtime host by itself: its starts, its warm runs, the memory of its sandboxes.
    starts_only: bool
    # Nothing at all: what the saved runs found.
    history_only: bool
    keeps_data: bool
    # Further arguments of `evenflow up`, to compare settings; empty: what a user gets.
    up_arguments: tuple[str, ...]

    @property
    def published_name(self) -> str:
        """Of the files in docs/benchmarks."""
        return "starts" if self.starts_only else "latest"

    @property
    def sizes(self) -> Sizes:
        """The sizes of a quick or a full run."""
        return QUICK_SIZES if self.is_quick else FULL_SIZES


def parse(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Options:
    """Options of a command line; QUICK=1 and SAVE=1 do what --quick and --save do. Exits 2 on what it does not know."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="Measures Evenflow beside Huey, taskiq, Celery and JetStream."
    )
    parser.add_argument("--quick", action="store_true", help="about two minutes: one repeat, smaller sizes (QUICK=1)")
    parser.add_argument(
        "--save", action="store_true", help="write docs/benchmarks/latest.* and a line of history.jsonl (SAVE=1)"
    )
    parser.add_argument("--repeats", type=_repeats, help=f"{FULL_REPEATS}; {QUICK_REPEATS} when quick")
    parser.add_argument("--no-peers", action="store_true", help="measure Evenflow alone: no ratios")
    parser.add_argument("--starts-only", action="store_true", help="a runtime host by itself (starts.json, .md)")
    parser.add_argument("--history", action="store_true", help="measure nothing: print the rows of the saved runs")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs, and say where it is")
    parser.add_argument("--shards", type=int, help="shards of the fleet, as `evenflow up --shards`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as `evenflow up --set`")
    given = parser.parse_args(arguments)
    is_quick = given.quick or is_set(environ, "QUICK")
    return Options(
        is_quick=is_quick,
        saves=given.save or is_set(environ, "SAVE"),
        repeats=given.repeats or (QUICK_REPEATS if is_quick else FULL_REPEATS),
        with_peers=not given.no_peers,
        starts_only=given.starts_only,
        history_only=given.history,
        keeps_data=given.keep,
        up_arguments=(
            *(("--shards", str(given.shards)) if given.shards else ()),
            *(text for pair in given.set for text in ("--set", pair)),
        ),
    )


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """Whether a variable says yes."""
    return environ.get(name, "").lower() in _TRUE


def _repeats(text: str) -> int:
    number = int(text)
    if not MIN_REPEATS <= number <= MAX_REPEATS:
        raise argparse.ArgumentTypeError(f"within {MIN_REPEATS} to {MAX_REPEATS}, not {number}")
    return number
