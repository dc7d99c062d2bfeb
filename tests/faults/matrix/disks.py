"""Disks that are full, slow or broken, below one of the two queue nodes."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.shared import ids
from tests.faults.matrix import faulty_disk
from tests.faults.matrix.cell import Cell, Inject
from tests.faults.matrix.faulty_disk import NODE, READ, SYNC, WRITE, FaultyDisk
from tests.faults.matrix.history import History
from tests.faults.matrix.rig import Rig
from tests.kit.waiting import wait_until

BETWEEN_EVENTS = 300
VOLUME_BYTES = 64 << 20
# 16 shards keep this back, and open only where there is twice as much.
RESERVE_BYTES = 256 << 10
FAILURES = 5
# A checkpoint syncs and reads: with few pages there are many.
CHECKPOINT_PAGES = 64
# The k of the k-th call; a drain makes a handful of each kind.
MOST_CALLS = {WRITE: 60, SYNC: 20, READ: 20}
NAMES = {WRITE: "write", SYNC: "sync", READ: "read"}
SLOW_SECONDS = (0.05, 0.5)
# A quarter is what best of two cannot avoid: both that were drawn are slow.
MOST_OF_SLOW = 0.45
SEEN_AFTER_EVENTS, SLOW_EVENTS = 100, 500
FAIL_WITHIN_SECONDS = 30.0


def _shards(rig: Rig) -> Path:
    return rig.fleet.data / "queue" / NODE


# --- full


def _cannot_mount() -> str:
    return "" if os.geteuid() == 0 else "needs root, to mount a small volume"


@contextmanager
def _small_volume(rig: Rig) -> Iterator[None]:
    folder = _shards(rig)
    for path in (folder.parents[1], folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(rig: Rig) -> None:
    ballast = _shards(rig) / "ballast"
    finished_before = sum(row["finished_total"] for row in rig.shards(NODE))
    try:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
        rig.notes.append(f"{ballast.stat().st_size} bytes of ballast: the volume of {NODE} is full")
        # The other node's shards take what the doors get.
        rig.wait_acked(2 * BETWEEN_EVENTS)
        accepted = _accepted(rig)
        rig.wait_shards(
            NODE,
            lambda rows: sum(row["finished_total"] for row in rows) > finished_before,
            "settles to go on from the reserved space",
        )
        rig.wait_acked(BETWEEN_EVENTS)
        rig.notes.append(f"{NODE} took {_accepted(rig) - accepted} of {BETWEEN_EVENTS} events while it was full")
    finally:
        ballast.unlink(missing_ok=True)
    accepted = _accepted(rig)
    rig.wait_shards(NODE, lambda rows: sum(row["accepted_total"] for row in rows) > accepted, f"{NODE} to take events")
    rig.wait_acked(BETWEEN_EVENTS)


def _accepted(rig: Rig) -> int:
    return int(sum(row["accepted_total"] for row in rig.shards(NODE)))


# --- slow, broken


def _slow(rig: Rig) -> None:
    disk = _disk_of(rig)
    rig.slow_shards = {int(row["shard_id"]) for row in rig.shards(NODE)}
    with rig.calm():
        for _ in range(3):
            seconds = rig.draw.uniform(*SLOW_SECONDS)
            disk.slow_down(seconds)
            # What waits there tells the doors, and has to come to wait first.
            rig.wait_acked(SEEN_AFTER_EVENTS)
            began_ms = time.time_ns() // 1_000_000
            rig.wait_acked(SLOW_EVENTS)
            rig.slow_spans.append((began_ms, time.time_ns() // 1_000_000))
            rig.notes.append(f"syncs of {NODE} {seconds:.2f} s slower")
        disk.slow_down(0.0)


def _judge_placement(rig: Rig, history: History) -> None:
    """Of the events whose shard the door was free to choose, the slow shards get clearly less than half."""
    chosen = [
        ids.shard_of(one.acked) in rig.slow_shards
        for one in history.sent
        if one.acked
        and not ids.is_derived(one.acked)
        and any(began_ms <= _chosen_at_ms(one.acked) < ended_ms for began_ms, ended_ms in rig.slow_spans)
    ]
    part = sum(chosen) / max(1, len(chosen))
    rig.notes.append(f"{NODE} got {part:.0%} of {len(chosen)} events that could go anywhere while its disk was slow")
    if part > MOST_OF_SLOW:
        rig.broken.append(f"placement did not avoid the slow disk: {NODE} got {part:.0%} of the events")


def _chosen_at_ms(minted_id: bytes) -> int:
    """When the door made the id, and with it chose the shard."""
    return int.from_bytes(minted_id[:6], "big")


def _break(kind: int) -> Inject:
    def inject(rig: Rig) -> None:
        disk = _disk_of(rig)
        for number in range(FAILURES):
            at_call = rig.draw.randint(1, MOST_CALLS[kind])
            disk.fail(kind, at_call, errno.EIO)
            wait_until(lambda wanted=number + 1: disk.failed >= wanted, FAIL_WITHIN_SECONDS, f"call {at_call} to fail")  # type: ignore[misc]
            _reopen_what_did_not_open(rig)
            rig.wait_acked(BETWEEN_EVENTS)
            rig.notes.append(f"{NAMES[kind]} number {at_call} failed")

    return inject


def _reopen_what_did_not_open(rig: Rig) -> None:
    """Until every shard of the node serves. One whose file could not even be opened waits for somebody to say so."""
    asked: set[int] = set()

    def serve(rows: list[dict[str, object]]) -> bool:
        for row in rows:
            shard_id = int(str(row["shard_id"]))
            if row["state"] == "quarantined" and shard_id not in asked:
                asked.add(shard_id)
                rig.notes.append(f"shard {shard_id}: {row['state_reason']}")
                rig.fleet.cli("shards", "reopen", str(shard_id))
        return all(row["state"] == "serving" for row in rows)

    rig.wait_shards(NODE, serve, f"all shards of {NODE} to serve")


def _saw_no_second_sync(rig: Rig, _history: History) -> None:
    if again := _disk_of(rig).synced_again:
        rig.broken.append(f"{again} syncs were tried again on a file on which one had failed")


def _disk_of(rig: Rig) -> FaultyDisk:
    assert rig.disk is not None
    return rig.disk


def _io_error(kind: int) -> Cell:
    return Cell(
        f"io-error-{NAMES[kind]}",
        "the shard stops, is opened anew and verified; no sync is tried again",
        _break(kind),
        has_faulty_disk=True,
        judge=_saw_no_second_sync,
        needs=faulty_disk.lacking,
        settings={"queue.checkpoint_pages": str(CHECKPOINT_PAGES)},
    )


CELLS = (
    Cell(
        "disk-full",
        "no accept, settles go on from reserved space, and it resumes by itself",
        _fill,
        before=_small_volume,
        needs=_cannot_mount,
        settings={"queue.reserve_bytes": str(RESERVE_BYTES)},
    ),
    Cell(
        "slow-disk",
        "other shards are not affected, and placement avoids it",
        _slow,
        judge=_judge_placement,
        judges_delays=True,
        has_faulty_disk=True,
        needs=faulty_disk.lacking,
    ),
    *map(_io_error, (WRITE, SYNC, READ)),
)
