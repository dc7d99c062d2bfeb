"""Backup and check of a shard that serves, and a quarantined one that is served again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import grpc
import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue import backup, offline, shards
from services.queue.paths import shard_path
from services.queue.shard import Shard
from services.shared.errors import EvenflowError
from tests.kit.queue_node_here import QueueNodeHere
from tests.kit.waiting import eventually

# Of a machine that has much else to do.
PATIENCE_SECONDS = 30.0


@pytest.fixture
async def fleet(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[QueueNodeHere]:
    monkeypatch.setattr(shards, "FILE_CHECK_SECONDS", 0.05)
    made = QueueNodeHere(run_dir)
    await made.start()
    await made.shards.apply(1, ["queue-0", "queue-0"])
    yield made
    await made.stop()


def files_of(fleet: QueueNodeHere) -> Path:
    """The node's folder."""
    return fleet.folder / "queue" / "queue-0"


async def back_up(fleet: QueueNodeHere, path: Path, shard_id: int = 0) -> queue_pb2.BackupFacts:
    """One backup; what it is."""
    request = queue_pb2.BackupShardRequest(shard_id=shard_id, path=str(path))
    facts = None
    async for message in fleet.stub.BackupShard(request, metadata=fleet.peer.metadata):
        facts = message.facts if message.HasField("facts") else facts
    assert facts is not None
    found: queue_pb2.BackupFacts = facts
    return found


async def check(fleet: QueueNodeHere, *, full: bool = True) -> queue_pb2.CheckShardResponse:
    """Check shard 0."""
    request = queue_pb2.CheckShardRequest(shard_id=0, full=full)
    found: queue_pb2.CheckShardResponse = await fleet.stub.CheckShard(request, metadata=fleet.peer.metadata)
    return found


async def reason_of(call: Any) -> int:
    """The typed refusal of a call."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return int(EvenflowError.from_rpc_error(refused.value).reason)


def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many steps, so that there is an in-between."""
    monkeypatch.setattr(backup, "FIRST_STEP_PAGES", 2)
    monkeypatch.setattr(backup, "MIN_STEP_PAGES", 2)
    monkeypatch.setattr(backup, "MAX_STEP_PAGES", 2)


async def test_a_backup_is_one_moment_of_a_shard_that_is_written_to(
    fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events come, are leased and settled all the while; the copy is whole: the shard as it was at the last step."""
    small_steps(monkeypatch)
    for _ in range(4):
        events = [fleet.event() for _ in range(250)]
        for event in events:
            event.payload = b'"%s"' % (b"x" * 3_000)
        await fleet.enqueue(*events)
    poller = await fleet.poller(100)
    running = asyncio.create_task(back_up(fleet, fleet.folder / "copy.db"))
    answered: list[bytes] = []
    while not running.done():
        event = fleet.event()
        await fleet.enqueue(event)
        answered.append(event.request_id)
        if len(answered) < 20:
            (lease, *_) = (await asyncio.wait_for(poller.read(), PATIENCE_SECONDS)).leases
            await fleet.settle(
                queue_pb2.Settlement(receipt=lease.receipt, ack=queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS))
            )
            await poller.write(queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=1, bytes=1 << 20)))
    facts = await running
    assert len(answered) > 5
    arguments = ["--shard", "0", "--from", str(fleet.folder / "copy.db")]
    connection = apsw.Connection(f"file:{fleet.folder}/copy.db?immutable=1", flags=apsw.SQLITE_OPEN_URI | 1)
    found = {row[0] for row in connection.execute("SELECT request_id FROM events")}
    connection.close()
    assert len(found) == facts.depth
    # What was answered before some moment is in it, what came later is not.
    is_in = [request_id in found for request_id in answered]
    assert is_in == sorted(is_in, reverse=True) and is_in[0]
    assert offline.main(["export", *arguments, "--out", str(fleet.folder / "copy.jsonl")]) == 0
    note = backup.read_note(fleet.folder / "copy.db")
    assert note is not None and (note.sha256, note.generation) == (facts.sha256, 1)
    assert not list(fleet.folder.glob("copy.db-*"))


async def test_a_backup_is_restored_by_consent_and_served_again(
    fleet: QueueNodeHere, capfd: pytest.CaptureFixture[str]
) -> None:
    """The shard's own file is lost while it serves; the backup takes its place without a restart of the node."""
    kept, late = fleet.event(), fleet.event()
    await fleet.enqueue(kept)
    await back_up(fleet, fleet.folder / "copy.db")
    await fleet.enqueue(late)
    place = ["--directory", str(files_of(fleet)), "--shard", "0", "--from", str(fleet.folder / "copy.db")]
    assert offline.main(["restore", *place]) == 1
    assert "another process serves" in capfd.readouterr().err
    shard_path(files_of(fleet), 0).unlink()
    await eventually(lambda: next(iter(fleet.shards)).state == queue_pb2.SHARD_STATE_QUARANTINED, PATIENCE_SECONDS)
    reopen = queue_pb2.ReopenShardRequest(shard_id=0)
    answer = await fleet.stub.ReopenShard(reopen, metadata=fleet.peer.metadata)
    assert answer.state == queue_pb2.SHARD_STATE_QUARANTINED and "is missing" in answer.state_reason
    assert offline.main(["restore", *place]) == 1
    assert "it holds 1 unfinished events" in (words := capfd.readouterr().err) and "it held 2 unfinished" in words
    assert offline.main(["restore", *place, "--accept-old-copy"]) == 0
    answer = await fleet.stub.ReopenShard(reopen, metadata=fleet.peer.metadata)
    assert (answer.state, answer.state_reason) == (queue_pb2.SHARD_STATE_SERVING, "")
    poller = await fleet.poller(10)
    (lease,) = (await asyncio.wait_for(poller.read(), PATIENCE_SECONDS)).leases
    assert lease.event == kept
    assert (await fleet.enqueue(late)).depth == 2
    assert not (await check(fleet)).findings
    refused = fleet.stub.ReopenShard(reopen, metadata=fleet.peer.metadata)
    assert await reason_of(refused) == errors_pb2.ERROR_REASON_RESOURCE_CONFLICT
    refused = fleet.stub.ReopenShard(queue_pb2.ReopenShardRequest(shard_id=9), metadata=fleet.peer.metadata)
    assert await reason_of(refused) == errors_pb2.ERROR_REASON_SHARD_UNAVAILABLE


async def test_a_changed_backup_is_not_restored(fleet: QueueNodeHere, capfd: pytest.CaptureFixture[str]) -> None:
    await fleet.enqueue(fleet.event())
    copy = fleet.folder / "copy.db"
    await back_up(fleet, copy)
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    await fleet.shards.stop()
    place = ["--directory", str(files_of(fleet)), "--shard", "0", "--from", str(copy)]
    assert offline.main(["restore", *place, "--accept-old-copy"]) == 1
    assert "it was changed" in capfd.readouterr().err


async def test_refusals_of_a_backup(fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the way stays as it is; no room is known before anything is written."""
    taken = fleet.folder / "taken.db"
    taken.write_text("mine")
    for path, reason in (
        (str(taken), errors_pb2.ERROR_REASON_RESOURCE_CONFLICT),
        ("relative.db", errors_pb2.ERROR_REASON_INVALID_PARAMETER),
        (str(fleet.folder / "nowhere" / "x.db"), errors_pb2.ERROR_REASON_INVALID_PARAMETER),
    ):
        call = fleet.stub.BackupShard(queue_pb2.BackupShardRequest(path=path), metadata=fleet.peer.metadata)
        assert await reason_of(call.read()) == reason
    assert taken.read_text() == "mine"
    monkeypatch.setattr(backup, "SPARE_BYTES", 1 << 60)
    free = str(fleet.folder / "free.db")
    call = fleet.stub.BackupShard(queue_pb2.BackupShardRequest(path=free), metadata=fleet.peer.metadata)
    assert await reason_of(call.read()) == errors_pb2.ERROR_REASON_DISK_FULL
    assert not Path(free).exists()


@pytest.mark.parametrize("end", ["cancelled", "shard fails"])
async def test_a_backup_that_is_cut_off_leaves_nothing(
    fleet: QueueNodeHere, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """No file; and the shard serves on."""
    small_steps(monkeypatch)
    monkeypatch.setattr(backup, "STEP_TARGET_MS", 0.0)
    for _ in range(4):
        await fleet.enqueue(*(fleet.event() for _ in range(500)))
    copy = fleet.folder / "copy.db"
    monkeypatch.setattr("services.queue.shard_tools.PROGRESS_SECONDS", 0.001)
    call = fleet.stub.BackupShard(queue_pb2.BackupShardRequest(path=str(copy)), metadata=fleet.peer.metadata)
    first = await call.read()
    assert not first.HasField("facts")
    if end == "cancelled":
        call.cancel()
    else:

        def fail(_shard: Shard) -> None:
            raise apsw.IOError("disk I/O error")

        with pytest.raises(EvenflowError):
            await asyncio.wait_for(fleet.shards.get(0).call(fail), PATIENCE_SECONDS)
        with pytest.raises(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
    await eventually(lambda: not list(fleet.folder.glob("copy.db*")), PATIENCE_SECONDS)
    await eventually(lambda: next(iter(fleet.shards)).state == queue_pb2.SHARD_STATE_SERVING, PATIENCE_SECONDS)
    assert (await fleet.enqueue(fleet.event())).depth == 2_001
    assert (await back_up(fleet, copy)).depth == 2_001


async def test_a_check_of_a_served_shard(fleet: QueueNodeHere) -> None:
    """Whole; then with an index that lacks a row, with a wrong count, and with a row that no zone covers."""
    await fleet.enqueue(*(fleet.event() for _ in range(100)))
    found = await check(fleet)
    assert not found.findings and found.rows["events"] == 100 and found.pages > 10
    assert not list(files_of(fleet).glob("check-*"))

    def miscount(shard: Shard) -> None:
        shard.event_count += 1

    await fleet.shards.get(0).call(miscount)
    assert list((await check(fleet)).findings) == ["the shard counts 101 rows of events, its file has 100"]

    def uncover(shard: Shard) -> None:
        shard.event_count -= 1
        shard.database.connection.execute("DELETE FROM expiry_zones")

    await fleet.shards.get(0).call(uncover, writes=True)
    assert "no expiry zone" in (await check(fleet)).findings[0]
