"""A shard on a volume that is really full: a tmpfs of a few megabytes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.queue.database import DiskFull
from services.shared.errors import Reason
from tests.unit.queue.kit import Bench, ack

VOLUME_BYTES = 2 << 20
RESERVE_BYTES = 128 << 10
# More than fits: its log alone would be larger than the volume.
ROUNDS = 200
EVENTS = 4
HOUSEKEEPING_MS = 1_000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small volume")


@pytest.fixture
def volume(run_dir: Path) -> Iterator[Path]:
    folder = run_dir / "volume"
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(volume: Path) -> Path:
    ballast = volume / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 12)):
                pass
        except OSError:
            pass
    return ballast


def test_the_log_of_a_shard_does_not_fill_its_volume_for_good(volume: Path) -> None:
    bench = Bench(volume, reserve_bytes=RESERVE_BYTES, outcome_max_rows=100)
    refused = 0
    for _ in range(ROUNDS):
        while refusal := bench.enqueue(*(bench.event() for _ in range(EVENTS))).refusal:
            assert refusal.reason == Reason.ERROR_REASON_DISK_FULL
            refused += 1
            assert refused < ROUNDS
            bench.clock.advance(HOUSEKEEPING_MS)
            bench.drain()
        bench.shard.checkpoint_if_due()
        for lease in bench.lease(EVENTS):
            while bench.settle(ack(lease)).refusal:
                refused += 1
                assert refused < ROUNDS
    assert bench.shard.finished_total == ROUNDS * EVENTS
    bench.close()


def test_settles_go_on_from_the_reserve_and_the_rest_by_itself(volume: Path) -> None:
    bench = Bench(volume, reserve_bytes=RESERVE_BYTES)
    bench.enqueue(*(bench.event() for _ in range(20)))
    ballast = fill(volume)
    refusals = [bench.enqueue(bench.event(payload=bytes(20_000))).refusal for _ in range(20)]
    assert {one.reason for one in refusals if one is not None} == {Reason.ERROR_REASON_DISK_FULL}
    for lease in bench.lease(20):
        assert not bench.settle(ack(lease)).refusals
    ballast.unlink()
    bench.clock.advance(HOUSEKEEPING_MS)
    bench.drain()
    assert bench.enqueue(bench.event()).refusal is None
    bench.close()


def test_a_shard_that_cannot_even_be_closed_cleanly_opens_as_after_a_crash(volume: Path) -> None:
    bench = Bench(volume, reserve_bytes=0)
    bench.enqueue(bench.event())
    bench.shard.database.checkpoint(truncate=True)
    ballast = fill(volume)
    with pytest.raises(DiskFull):
        bench.close()
    ballast.unlink()
    bench.open()
    assert bench.shard.depth == 1
    bench.close()
