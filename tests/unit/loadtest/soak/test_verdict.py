"""A leak goes red, noise and steps of the warm-up do not."""

import math
import random
from dataclasses import replace

import pytest

from loadtest.soak import verdict
from loadtest.soak.verdict import MIB, Kind, Ledger, Series

WARM_UP = 600.0
# Half an hour, a look every 10 s.
TIMES = [10.0 * number for number in range(1, 181)]
HEALTHY = Ledger(accepted=1_000, delivered=30, finished=1_030, depth=0, not_started=0, refused=0)


def series(kind: Kind, an_hour: float, level: float, noise: float, seed: int = 1) -> Series:
    """A line with even noise around it."""
    draw = random.Random(seed)
    return Series("it", kind, TIMES, [level + an_hour * at / 3_600 + draw.uniform(-noise, noise) for at in TIMES])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "an_hour", "level", "noise"),
    [
        # 100 bytes an event at 100 events a second.
        (Kind.MEMORY, 34 * MIB, 80 * MIB, 1 * MIB),
        (Kind.FLEET_MEMORY, 60 * MIB, 600 * MIB, 3 * MIB),
        (Kind.SANDBOX_MEMORY, 34 * MIB, 30 * MIB, 1 * MIB),
        (Kind.SHARD_FILES, 60 * MIB, 40 * MIB, 3 * MIB),
        (Kind.DISK, 20 * MIB, 1 * MIB, 0.5 * MIB),
        # One in three minutes.
        (Kind.FDS, 20, 60, 2),
        (Kind.HOST_FDS, 60, 60, 5),
        (Kind.THREADS, 20, 20, 1),
        (Kind.SANDBOXES, 30, 12, 3),
        (Kind.DEPTH, 3_600, 10, 20),
    ],
)
def test_a_leak_of_each_kind_is_red_and_says_where_to_look(
    kind: Kind, an_hour: float, level: float, noise: float, seed: int
) -> None:
    """The same without the leak is flat."""
    leaks = verdict.trend(series(kind, an_hour, level, noise, seed), WARM_UP)
    assert not leaks.is_flat and leaks.look_at == kind.look_at
    assert verdict.trend(series(kind, 0, level, noise, seed), WARM_UP).is_flat


def test_what_shrinks_is_flat() -> None:
    """Sandboxes of the begin that end later are no leak."""
    assert verdict.trend(series(Kind.SANDBOXES, -60, 40, 2), WARM_UP).is_flat


def test_growth_of_the_warm_up_alone_is_flat() -> None:
    """A store that fills and stays full."""
    values = [100.0 * MIB * min(1.0, at / WARM_UP) for at in TIMES]
    assert verdict.trend(Series("it", Kind.SHARD_FILES, TIMES, values), WARM_UP).is_flat
    assert not verdict.trend(Series("it", Kind.SHARD_FILES, TIMES, values), 0.0).is_flat


def test_wild_samples_do_not_move_a_slope() -> None:
    """One in six is far off, all of them late."""
    values = [80.0 * MIB if number < 150 or number % 2 else 400.0 * MIB for number in range(len(TIMES))]
    assert verdict.trend(Series("it", Kind.MEMORY, TIMES, values), WARM_UP).is_flat


def test_a_leak_below_the_noise_of_its_kind_is_no_leak() -> None:
    """As a run of two minutes is too short to tell a slow leak."""
    short = Series("it", Kind.MEMORY, TIMES[:30], [1e8 + 20 * MIB * at / 3_600 for at in TIMES[:30]])
    assert verdict.trend(short, 0.0).is_flat


def test_a_process_that_was_hardly_there_is_not_called_flat() -> None:
    """Nobody knows."""
    assert not verdict.trend(Series("it", Kind.MEMORY, TIMES[-3:], [1.0, 1.0, 1.0]), WARM_UP).is_flat


def test_wal_files_are_held_to_their_bound_all_over_the_run() -> None:
    """Also in the warm-up: a WAL has no reason to be larger then."""
    fits, bursts = [5.0 * MIB] * len(TIMES), [5.0 * MIB] * len(TIMES)
    bursts[3] = 11.0 * MIB
    assert verdict.bounded("wal", TIMES, fits, WARM_UP, 10.0 * MIB, "x").is_flat
    assert not verdict.bounded("wal", TIMES, bursts, WARM_UP, 10.0 * MIB, "x").is_flat


def test_rows_beyond_rate_and_retention_are_red() -> None:
    """Also when next to none are there: then nothing was filled, and flatness means nothing."""
    full = [min(at, 300.0) * 100 for at in TIMES]
    endless = [at * 100 for at in TIMES]
    assert verdict.rows("rows", TIMES, full, WARM_UP, 30_000).is_flat
    assert "retention" in verdict.rows("rows", TIMES, endless, WARM_UP, 30_000).look_at
    assert not verdict.rows("rows", TIMES, [0.0] * len(TIMES), WARM_UP, 30_000).is_flat


def test_few_rows_may_deviate_as_random_counts_do() -> None:
    """27 dead letters are expected; 45 are no leak, 90 are."""
    assert verdict.rows("rows", TIMES, [45.0] * len(TIMES), WARM_UP, 27).is_flat
    assert not verdict.rows("rows", TIMES, [90.0] * len(TIMES), WARM_UP, 27).is_flat


def test_latency_that_creeps_up_is_red_and_a_spike_is_not() -> None:
    """Each value is a quantile of a stretch."""
    steady = [20.0 + 2 * math.sin(at) for at in TIMES]
    creeps = [value + at / 20 for value, at in zip(steady, TIMES, strict=True)]
    spike = list(steady)
    spike[-2] = 4_000.0
    assert verdict.latency("p99", TIMES, steady, WARM_UP, 10.0).is_flat
    assert verdict.latency("p99", TIMES, spike, WARM_UP, 10.0).is_flat
    assert not verdict.latency("p99", TIMES, creeps, WARM_UP, 10.0).is_flat
    assert not verdict.latency("p99", TIMES[:5], steady[:5], 0.0, 10.0).is_flat


@pytest.mark.parametrize(
    ("ledger", "lost"),
    [
        (HEALTHY, 0),
        (replace(HEALTHY, finished=1_029), 1),
        (replace(HEALTHY, not_started=2), 2),
        (replace(HEALTHY, finished=1_025, depth=5), 5),
        # Delivered twice is no loss: a destination has every record at least once.
        (replace(HEALTHY, finished=1_031), 0),
    ],
)
def test_every_accepted_event_has_an_end(ledger: Ledger, lost: int) -> None:
    """By the nodes' count, the handlers' records, and what is in the queue."""
    found = verdict.ledger(ledger)
    assert (ledger.lost, found.is_flat) == (lost, lost == 0)


def test_refused_sends_nodes_that_ended_and_looks_without_answer_are_red() -> None:
    """Each makes a run that was not steady, or not seen."""
    assert verdict.refusals(HEALTHY).is_flat and not verdict.refusals(replace(HEALTHY, refused=1)).is_flat
    pids = [{"queue-0": 7, "queue-1": 8}] * 3
    assert verdict.same_processes(pids).is_flat
    ended = verdict.same_processes([*pids, {"queue-0": 7, "queue-1": 9}])
    assert not ended.is_flat and ended.figure == "queue-1"
    assert verdict.looks(1, 99).is_flat and not verdict.looks(20, 80).is_flat


def test_latency_is_not_judged_on_a_busy_machine_or_by_a_late_generator() -> None:
    """And the reason is told."""
    assert verdict.latency_void([0.8] * 9, 2, ()) == ""
    assert "2 cores" in verdict.latency_void([3.0] * 9, 2, ())
    assert "sends were late" in verdict.latency_void([0.8] * 9, 2, ["5 % of the sends were late"])
