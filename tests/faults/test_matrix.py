"""The checker on histories made by hand, and a quick selection of the matrix on real fleets, a mutant among them."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import ids
from tests.faults.matrix import faulty_disk, report, restarts
from tests.faults.matrix.cell import Result
from tests.faults.matrix.cells import CELLS, ELSEWHERE, QUICK
from tests.faults.matrix.checker import check
from tests.faults.matrix.history import Ended, History, Ran, Sent
from tests.faults.matrix.mutants import CAUGHT_BY
from tests.faults.matrix.run import run

EVENTS = 1_000
MUTANT = "token-forgotten"
MAX_ERRORS = 3
HASH = bytes(32)
SHARD = 3


def request_id(number: int) -> bytes:
    return ids.mint(number, SHARD, lambda n: number.to_bytes(n, "big"))


def sent(number: int, **more: Any) -> Sent:
    return Sent(**{"number": number, "body_hash": HASH, "asks": "succeed", "acked": request_id(number), **more})


def ran(number: int, **more: Any) -> Ran:
    return Ran(
        **{
            "number": number,
            "request_id": request_id(number),
            "body_hash": HASH,
            "started_ns": 1,
            "ended_ns": 2,
            "succeeded": True,
            **more,
        }
    )


def ended(number: int, **more: Any) -> Ended:
    return Ended(
        **{
            "request_id": request_id(number),
            "state": "succeeded",
            "condition": "Success",
            "function_errors": 0,
            "deliveries": 0,
            "finished_ms": 10,
            "expires_ms": 1_000,
            **more,
        }
    )


def history(**more: Any) -> History:
    """Two events that went well, but for what is given."""
    return History(
        **{
            "sent": [sent(1), sent(2)],
            "ran": [ran(1), ran(2)],
            "ended": [ended(1), ended(2)],
            "max_function_errors": MAX_ERRORS,
            **more,
        }
    )


BROKEN: dict[str, tuple[History, str]] = {
    "no record of its end": (history(ended=[ended(1)]), "lost: event 2"),
    "two records": (history(ended=[ended(1), ended(2), ended(2, state="dead")]), "has 2 records"),
    "still queued": (history(ended=[ended(1), ended(2, state="available")]), "is still available"),
    "said to have succeeded": (history(ran=[ran(1)]), "no handler succeeded"),
    "destination not told": (
        history(ended=[ended(1), ended(2, state="failed")]),
        "counts as handed over and the destination was never told",
    ),
    "never sent": (history(ran=[ran(1), ran(2), ran(3)]), "number 3 ran and was never sent"),
    "other bytes": (history(ran=[ran(1), ran(2, body_hash=bytes(31) + b"x")]), "with other bytes"),
    "refused and run": (
        history(sent=[sent(1), sent(2, acked=b"", refused="no")], ended=[ended(1)]),
        "though the door refused it",
    ),
    "stored twice": (history(ran=[ran(1), ran(2), ran(2, request_id=request_id(9))]), "stored 2 times"),
    "twice for no reason": (history(ran=[ran(1), ran(2), ran(2)], may_repeat=False), "more than once and nothing"),
    "stale receipt": (history(stale_settles=5, stale_accepted=1), "1 of 5 settlements with a stale receipt"),
    "too many errors": (history(ended=[ended(1), ended(2, function_errors=MAX_ERRORS + 1)]), "4 function errors"),
    "outlived its age": (history(ended=[ended(1), ended(2, finished_ms=9_000)]), "8000 ms after its age"),
    "lost with its shard, and never run": (
        history(ran=[ran(1)], ended=[ended(1)], damaged_shards=frozenset({SHARD})),
        "lost: event 2",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_checker_finds(what: str) -> None:
    """One thing is wrong, and one thing is told."""
    given_history, words = BROKEN[what]
    verdict = check(given_history)
    assert not verdict.holds and len(verdict.broken) == 1 and words in verdict.broken[0]


GOOD: dict[str, tuple[History, dict[str, int]]] = {
    "all well": (history(), {"events": 2, "acked": 2}),
    "a repeat that the fault explains": (history(ran=[ran(1), ran(2), ran(2)]), {"duplicated": 1}),
    "a repeat after a lease that ran out": (
        history(ran=[ran(1), ran(2), ran(2)], ended=[ended(1), ended(2, deliveries=1)], may_repeat=False),
        {"duplicated": 1},
    ),
    "an acknowledgement that never came": (history(sent=[sent(1), sent(2, acked=b"")]), {"acked": 1, "recovered": 1}),
    "refused": (
        history(sent=[sent(1), sent(2, acked=b"", refused="no")], ran=[ran(1)], ended=[ended(1)]),
        {"refused": 1},
    ),
    "named by a repair": (
        history(ran=[ran(1)], ended=[ended(1)], named_lost=frozenset({request_id(2)})),
        {"lost": 0, "named_lost": 1},
    ),
    "its record went with its shard after it had run": (
        history(ended=[ended(1)], damaged_shards=frozenset({SHARD})),
        {"lost": 0, "named_lost": 0},
    ),
    "handed over": (
        history(ran=[ran(1)], ended=[ended(1), ended(2, state="failed")], destination={request_id(2): 1}),
        {"lost": 0},
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_the_checker_counts(what: str) -> None:
    """Nothing is wrong."""
    given_history, counts = GOOD[what]
    verdict = check(given_history)
    assert verdict.broken == ()
    assert counts.items() <= dataclasses.asdict(verdict).items()


@given(st.integers(1, 60), st.data())
def test_every_event_that_goes_missing_is_counted(events: int, data: st.DataObject) -> None:
    """Whatever their number: lost is what was acknowledged and has no end; what ran and was not sent is told."""
    numbers = range(1, events + 1)
    gone = data.draw(st.sets(st.sampled_from(numbers)))
    foreign = data.draw(st.sets(st.integers(events + 1, 2 * events)))
    verdict = check(
        history(
            sent=[sent(number) for number in numbers],
            ran=[ran(number) for number in (*numbers, *foreign)],
            ended=[ended(number) for number in numbers if number not in gone],
        )
    )
    assert (verdict.acked, verdict.lost, verdict.unexpected) == (events, len(gone), len(foreign))
    assert verdict.holds == (not gone and not foreign)


ACCEPTS: dict[str, tuple[Sent, str]] = {
    "a repeated one was given up": (
        sent(2, acked=b"", has_token=True, failure="no connection, gRPC: UNAVAILABLE"),
        "2:",
    ),
    "one that is not repeated, by an answer": (sent(2, acked=b"", failure="HTTP 503"), "HTTP 503"),
    "one that is not repeated, with its connection": (sent(2, acked=b"", failure="no connection, gRPC: CANCELLED"), ""),
    "all well": (sent(2, has_token=True), ""),
}


@pytest.mark.parametrize("what", ACCEPTS)
def test_a_restart_fails_no_accept_but_with_its_connection(what: str) -> None:
    """And never one that its client repeats."""
    second, words = ACCEPTS[what]
    rig: Any = SimpleNamespace(broken=[], notes=[], restarts=[])
    restarts.judge_accepts(rig, history(sent=[sent(1), second]))
    assert words in "".join(rig.broken) and bool(rig.broken) == bool(words)


def test_repeats_are_told_by_the_restart_that_they_were_in() -> None:
    """And whether a lease explains them."""
    rig: Any = SimpleNamespace(broken=[], notes=[], restarts=[("queue-1", 0, 5)])
    restarts.judge_accepts(rig, history(ran=[ran(1), ran(2), ran(2, ended_ns=3_000_000_002)]))
    assert "1 succeeded again after the first success in the restart of queue-1" in rig.notes[-1]
    assert "3.0 to 3.0 s later" in rig.notes[-1]


def result(**more: Any) -> Result:
    counts = {one.name: 0 for one in dataclasses.fields(Result)}
    words: dict[str, Any] = {"fault": "healthy", "broken": [], "notes": [], "mutant": "", "skipped": ""}
    return Result(**{**counts, "recovery_seconds": None, **words, **more})


def test_a_saved_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What is there is not run again; a cell that is run again takes its place; the page tells all."""
    piece = report.Piece("make faults")
    saved = report.load(tmp_path)
    saved.add(result(seed=2, asked=10, broken=["lost: event 7"]), piece)
    saved.add(result(fault="kill-queue", seed=1, asked=10, recovery_seconds=1.5), piece)
    saved.add(result(fault="same-token", seed=1, asked=10, mutant=MUTANT, broken=["caught it"]), piece)
    report.save(saved, tmp_path)
    again = report.load(tmp_path)
    assert (
        again.has("healthy", 2, 10, "") and not again.has("healthy", 2, 20, "") and not again.has("healthy", 3, 10, "")
    )
    page = (tmp_path / "matrix.md").read_text()
    assert "- healthy, seed 2: lost: event 7" in page and "| kill-queue | 1 | 0 |" in page and "| caught |" in page
    again.add(result(seed=2, asked=10), piece)
    assert len(again.cells) == 3 and not [one for one in again.cells if one["broken"] and not one["mutant"]]


def test_a_mutant_that_nobody_caught_is_as_wrong_as_a_broken_cell() -> None:
    """And a cell that could not be run here is neither."""
    assert report.is_wrong(result(broken=["x"])) and not report.is_wrong(result())
    assert report.is_wrong(result(mutant="x")) and not report.is_wrong(result(mutant="x", broken=["x"]))
    assert not report.is_wrong(result(skipped="needs root"))


def test_the_lists_agree() -> None:
    """Every mutant has a cell, and every row that is not run here says where it is."""
    assert set(CAUGHT_BY.values()) | set(QUICK) <= set(CELLS) and not set(ELSEWHERE) & set(CELLS)
    assert all(cell.expected for cell in CELLS.values())


@pytest.mark.skipif(bool(faulty_disk.lacking()), reason=faulty_disk.lacking() or "-")
def test_the_disk_fails_at_the_call_that_was_named(tmp_path: Path) -> None:
    """In the node that was meant, in files of shards, once; and a sync that is tried again on it is seen."""
    shards = tmp_path / "shards"
    shards.mkdir()
    disk = faulty_disk.FaultyDisk(tmp_path, shards)
    script = (
        "import os, sys\n"
        "for name in sys.argv[1:]:\n"
        "    fd = os.open(name, os.O_RDWR | os.O_CREAT)\n"
        "    for _ in range(4):\n"
        "        for call in (lambda: os.pwrite(fd, b'x', 0), lambda: os.fsync(fd)):\n"
        "            try: print(call() is None and 'synced' or 'written', end=' ')\n"
        "            except OSError as e: print(e.errno, end=' ')\n"
    )

    def use(node: str, *names: str) -> list[str]:
        command = [sys.executable, "-c", script, *(str(shards / name) for name in names)]
        environment = {**os.environ, **disk.environment, "EVENFLOW_NODE_ID": node}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()

    well = ["written", "synced"] * 4
    disk.fail(faulty_disk.SYNC, 2, 5)
    assert use("queue-0", "shard-0001.db") == use(faulty_disk.NODE, "manifest.json") == well
    assert use(faulty_disk.NODE, "shard-0001.db") == ["written", "synced", "written", "5", *well[4:]]
    assert (disk.failed, disk.synced_again) == (1, 2)
    disk.fail(faulty_disk.WRITE, 1, 28)
    assert use(faulty_disk.NODE, "shard-0001.db-wal") == ["28", *well[1:]]
    assert disk.failed == 2


@pytest.mark.fleet
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_lost(name: str, tmp_path: Path) -> None:
    """On a real fleet under load; `make faults` runs all of the matrix."""
    found = run(CELLS[name], seed=1, events=EVENTS, logs=tmp_path)
    # How soon a node serves again is measured on a machine that has nothing else to do.
    broken = [words for words in found.broken if not words.startswith("recovery took")]
    assert not broken and found.acked >= EVENTS, found


@pytest.mark.fleet
@pytest.mark.timeout(240)
@pytest.mark.long
def test_a_promise_that_is_broken_is_seen() -> None:
    """A door that forgets tokens stores an event twice."""
    found = run(CELLS[CAUGHT_BY[MUTANT]], seed=1, events=EVENTS // 4, mutant=MUTANT)
    assert not found.holds and any("is another event" in words for words in found.broken), found


@pytest.mark.fleet
@pytest.mark.timeout(240)
@pytest.mark.long
def test_cells_run_beside_each_other() -> None:
    """As `make faults JOBS=2` does it: in processes of their own, each with a fleet."""
    options = ("--jobs", "2", "--cell", "healthy", "--cell", "same-token", "--seed", "1", "--events", "300")
    command = [sys.executable, "-m", "tests.faults.matrix", *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(" holds\n") == 2, (done.stdout, done.stderr)
