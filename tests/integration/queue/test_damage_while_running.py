"""A file that is damaged under an open node: that one shard is set aside with the reason, the others go on."""

import asyncio
import dataclasses
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from evenflow.common.v1 import errors_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue import identity, shard, shards, writer
from services.queue.paths import shard_path
from services.queue.reserve import Reserve
from services.queue.shard import Shard
from tests.kit.queue_node_here import QueueNodeHere
from tests.kit.waiting import eventually, until
from tests.unit.queue.test_damage_at_start import overwrite

# Of a machine that has much else to do.
PATIENCE_SECONDS = 30.0
PAGE = 4_096
EVENTS = 1_500
QUARANTINED = queue_pb2.SHARD_STATE_QUARANTINED


@pytest.fixture
async def fleet(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueueNodeHere]:
    monkeypatch.setattr(shards, "FILE_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(shard, "HOUSEKEEPING_MS", 50)
    made = QueueNodeHere(run_dir)
    await made.start()
    await made.shards.apply(1, ["queue-0", "queue-0", "queue-1"])
    yield made
    await made.stop()


async def fill(fleet: QueueNodeHere, count: int) -> None:
    """Events in shard 0, copied from the WAL into its file, and out of the page cache."""
    for _ in range(0, count, 500):
        await fleet.enqueue(*(fleet.event() for _ in range(min(500, count))))

    def settle_down(it: Shard) -> None:
        it.database.checkpoint(truncate=True)
        it.database.connection.execute("PRAGMA shrink_memory")

    await fleet.shards.get(0).call(settle_down)


async def quarantined(fleet: QueueNodeHere) -> str:
    """Until shard 0 is set aside; the reason as users see it. The other shard serves all the while."""
    await eventually(lambda: next(iter(fleet.shards)).state == QUARANTINED, PATIENCE_SECONDS)
    refused = await fleet.enqueue(fleet.event())
    assert refused.refusal.reason == errors_pb2.ERROR_REASON_SHARD_UNAVAILABLE
    assert not (await fleet.enqueue(fleet.event(1), shard_id=1)).HasField("refusal")
    described = await fleet.stub.DescribeShards(queue_pb2.DescribeShardsRequest(), metadata=fleet.peer.metadata)
    return str(described.shards[0].state_reason)


def replace(path: Path) -> None:
    """An exact copy is another file all the same: what we write goes into the old one."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (lambda path: path.unlink(), "shard-0000.db was removed or replaced"),
    "replaced": (replace, "shard-0000.db was removed or replaced"),
    "cut": (lambda path: os.truncate(path, path.stat().st_size - PAGE), "shard-0000.db was cut"),
    "emptied": (lambda path: os.truncate(path, 0), "shard-0000.db was cut "),
    "wal removed": (lambda path: Path(f"{path}-wal").unlink(), "shard-0000.db-wal was removed"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_files_that_change_under_an_open_shard(fleet: QueueNodeHere, fault: str) -> None:
    """Seen without anybody touching the shard; the reason says how much was in it."""
    await fill(fleet, 5)
    act, words = FAULTS[fault]
    act(shard_path(fleet.folder / "queue" / "queue-0", 0))
    reason = await quarantined(fleet)
    assert words in reason and "5 unfinished events and 0 dead letters" in reason
    assert ("saved whole as" in reason) == ("cut" not in words)


@pytest.mark.parametrize("fault", ["removed", "replaced", "wal removed"])
async def test_a_shard_whose_file_lost_its_name_is_saved_and_served_again(fleet: QueueNodeHere, fault: str) -> None:
    """Also what stands in the WAL alone: nothing that was accepted is lost by somebody's rm."""
    await fill(fleet, 5)
    last = fleet.event()
    await fleet.enqueue(last)
    path = shard_path(fleet.folder / "queue" / "queue-0", 0)
    FAULTS[fault][0](path)
    (name,) = re.findall(r"saved whole as (\S+):", await quarantined(fleet))
    for suffix in ("", "-wal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    (path.parent / name).replace(path)
    request = queue_pb2.ReopenShardRequest(shard_id=0)
    answer = await fleet.stub.ReopenShard(request, metadata=fleet.peer.metadata)
    assert answer.state == queue_pb2.SHARD_STATE_SERVING, answer.state_reason
    again = await fleet.enqueue(last)
    assert (again.depth, list(again.duplicate_indexes)) == (6, [0])


@pytest.mark.parametrize("why", ["the log is long", "the volume is full"])
async def test_a_checkpoint_does_not_hide_that_the_file_was_cut(
    fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """It writes the file's last pages, and with them the file is as long as it was."""
    await fleet.enqueue(*(fleet.event() for _ in range(5)))

    def checkpoint_soon(it: Shard) -> None:
        # What was cut is in memory still: nobody misses it.
        it.database.checkpoint(truncate=True)
        if why == "the log is long":
            it.settings = dataclasses.replace(it.settings, checkpoint_pages=1)
        else:
            it.settings = dataclasses.replace(it.settings, reserve_bytes=0)

    monkeypatch.setattr(shards, "FILE_CHECK_SECONDS", 3_600.0)
    monkeypatch.setattr(Reserve, "is_scarce", lambda _self: why == "the volume is full")
    path = shard_path(fleet.folder / "queue" / "queue-0", 0)
    await fleet.shards.get(0).call(checkpoint_soon)
    # The next look on its own is an hour away.
    await fleet.shards.get(0).call(lambda _it: os.truncate(path, path.stat().st_size - PAGE))
    await fleet.enqueue(*(fleet.event() for _ in range(500)))
    assert "shard-0000.db was cut" in await quarantined(fleet)


async def test_a_wal_that_is_cut_under_an_open_shard(fleet: QueueNodeHere) -> None:
    await fill(fleet, 5)
    log = Path(f"{shard_path(fleet.folder / 'queue' / 'queue-0', 0)}-wal")
    await fleet.enqueue(fleet.event())
    os.truncate(log, log.stat().st_size - PAGE)
    assert "shard-0000.db-wal was cut from" in await quarantined(fleet)


async def test_a_page_of_garbage_that_is_read(fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failed read closes the file; the look at every page that follows says what is wrong, once, for good."""
    checked: list[int] = []
    check_pages = identity.check_pages

    def counted(folder: Path, shard_id: int, *more: Any) -> None:
        checked.append(shard_id)
        check_pages(folder, shard_id, *more)

    monkeypatch.setattr(shards, "check_pages", counted)
    await fill(fleet, EVENTS)
    path = shard_path(fleet.folder / "queue" / "queue-0", 0)
    leaves = await fleet.shards.get(0).call(
        lambda it: it.database.rows(
            "SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path"
        )
    )
    await fill(fleet, 0)
    number = leaves[len(leaves) * 3 // 4][0]
    overwrite(path, (number - 1) * PAGE, os.urandom(PAGE))
    poller = await fleet.poller(100)
    leases = len((await asyncio.wait_for(poller.read(), PATIENCE_SECONDS)).leases)
    await poller.write(queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=EVENTS, bytes=1 << 26)))
    reason = await quarantined(fleet)
    assert "corrupt" in reason and f"held {EVENTS} unfinished events" in reason
    assert checked == [0] and 0 < leases < EVENTS


async def test_damage_that_no_check_finds_does_not_spin(fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row whose page is well-formed and whose event is not: opened anew a bounded number of times, then set aside."""
    opened: list[int] = []
    open_verified = identity.open_verified

    def counted(folder: Path, shard_id: int, *more: Any) -> Any:
        opened.append(shard_id)
        return open_verified(folder, shard_id, *more)

    monkeypatch.setattr(shards, "open_verified", counted)
    await fleet.enqueue(*(fleet.event() for _ in range(3)))

    def spoil(it: Shard) -> None:
        it.database.connection.execute("UPDATE events SET event = x'ff'")
        for lane in it.lanes.by_key.values():
            it.lanes.evict(lane)

    await fleet.shards.get(0).call(spoil, writes=True)
    await fleet.poller(1_000)
    reason = await quarantined(fleet)
    assert f"failed {writer.MAX_REOPENS + 1} times" in reason and "3 unfinished events" in reason
    assert opened == [0] * writer.MAX_REOPENS


async def test_the_numbers_in_the_manifest_follow_a_running_shard(
    fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a loss can be named; nothing is written for a shard in which nothing changed."""
    monkeypatch.setattr(shards, "NOTE_SECONDS", 0.1)
    manifest = fleet.folder / "queue" / "queue-0" / "manifest.json"
    await fleet.enqueue(*(fleet.event() for _ in range(7)))
    await eventually(lambda: '"depth": 7' in manifest.read_text(), PATIENCE_SECONDS)
    before = manifest.read_text()

    async def is_noted() -> bool:
        return await stamp() > 0

    async def stamp() -> int:
        found = await fleet.shards.get(1).call(lambda it: it.database.get_meta("stamp"))
        return int(found or 0)

    await until(is_noted, PATIENCE_SECONDS)
    await fleet.enqueue(fleet.event())
    await eventually(lambda: '"depth": 8' in manifest.read_text(), PATIENCE_SECONDS)
    assert before != manifest.read_text()
    assert await stamp() == 1
