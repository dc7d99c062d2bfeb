"""The queue over real gRPC: streams, depths, refusals, a file that goes missing, a process that is killed."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.identity import shard_path
from services.shared.errors import EvenflowError
from tests.kit.queue_node_here import QueueNodeHere
from tests.kit.waiting import eventually

TOKEN = "t" * 32
BIG = 1 << 20


@pytest.fixture
async def fleet(run_dir: Path) -> AsyncIterator[QueueNodeHere]:
    made = QueueNodeHere(run_dir)
    await made.start()
    await made.shards.apply(1, ["queue-0", "queue-0", "queue-1"])
    yield made
    await made.stop()


async def test_an_idle_poller_gets_events_of_every_shard_as_they_commit(fleet: QueueNodeHere) -> None:
    poller = await fleet.poller(10)
    for shard_id in (0, 1, 0):
        event = fleet.event(shard_id)
        response = await fleet.enqueue(event, shard_id=shard_id)
        assert not response.HasField("refusal") and response.depth == 1
        (lease,) = (await asyncio.wait_for(poller.read(), 5)).leases
        assert lease.event == event and lease.receipt.shard_id == shard_id
        settled = await fleet.settle(
            queue_pb2.Settlement(receipt=lease.receipt, ack=queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS))
        )
        assert not settled.refusals
        found = await fleet.stub.GetEvent(
            queue_pb2.GetEventRequest(tenant_id="t", request_id=event.request_id), metadata=fleet.peer.metadata
        )
        assert found.status.state == queue_pb2.EVENT_STATE_SUCCEEDED


async def test_credit_bounds_what_is_leased_and_shards_share_it(fleet: QueueNodeHere) -> None:
    for shard_id in (0, 1):
        await fleet.enqueue(*(fleet.event(shard_id) for _ in range(50)), shard_id=shard_id)
    poller = await fleet.poller(20)
    leases: list[queue_pb2.Lease] = []
    while len(leases) < 20:
        leases += (await asyncio.wait_for(poller.read(), 5)).leases
    await poller.write(queue_pb2.LeaseRequest(credit=queue_pb2.LeaseCredit(events=40, bytes=BIG)))
    while len(leases) < 60:
        leases += (await asyncio.wait_for(poller.read(), 5)).leases
    assert len(leases) == 60
    assert min(sum(lease.receipt.shard_id == s for lease in leases) for s in (0, 1)) >= 10


async def test_one_settle_batch_may_span_shards_and_has_one_answer(fleet: QueueNodeHere) -> None:
    for shard_id in (0, 1):
        await fleet.enqueue(fleet.event(shard_id), shard_id=shard_id)
    poller = await fleet.poller(2)
    leases: list[queue_pb2.Lease] = []
    while len(leases) < 2:
        leases += (await asyncio.wait_for(poller.read(), 5)).leases
    acks = [
        queue_pb2.Settlement(receipt=lease.receipt, ack=queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS))
        for lease in leases
    ]
    elsewhere = queue_pb2.Settlement(receipt=queue_pb2.Receipt(shard_id=2, sequence=1), ack=queue_pb2.Ack())
    response = await fleet.settle(acks[0], elsewhere, acks[1], acks[0])
    assert [(r.index, r.error.reason) for r in response.refusals] == [
        (1, errors_pb2.ERROR_REASON_SHARD_UNAVAILABLE),
        (3, errors_pb2.ERROR_REASON_RECEIPT_EXPIRED),
    ]


async def test_a_stale_map_and_a_foreign_shard_are_refused(fleet: QueueNodeHere) -> None:
    await fleet.shards.apply(2, ["queue-0", "queue-1", "queue-1"])
    stale = await fleet.enqueue(fleet.event(), epoch=1)
    assert stale.refusal.reason == errors_pb2.ERROR_REASON_SHARD_MAP_STALE
    moved = await fleet.enqueue(fleet.event(1), shard_id=1, epoch=2)
    assert moved.refusal.reason == errors_pb2.ERROR_REASON_SHARD_UNAVAILABLE
    poller = await fleet.poller(1)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await poller.read()
        raise await _error_of(poller)
    assert EvenflowError.from_rpc_error(raised.value).reason == errors_pb2.ERROR_REASON_SHARD_MAP_STALE


async def _error_of(call: Any) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


async def test_depths_are_told_at_once_and_on_change(fleet: QueueNodeHere) -> None:
    watch = fleet.stub.WatchDepths(queue_pb2.WatchDepthsRequest(), metadata=fleet.peer.metadata)
    first = await watch.read()
    assert [depth.shard_id for depth in first.depths] == [0, 1]
    await fleet.enqueue(fleet.event(1), shard_id=1)

    async with asyncio.timeout(5):
        while not any(depth.shard_id == 1 and depth.depth == 1 for depth in (await watch.read()).depths):
            pass
    watch.cancel()


async def test_a_missing_file_is_quarantined_and_the_rest_served(fleet: QueueNodeHere) -> None:
    path = shard_path(fleet.folder / "queue" / "queue-0", 0)
    path.unlink()
    writers = list(fleet.shards)
    await eventually(lambda: writers[0].state == queue_pb2.SHARD_STATE_QUARANTINED)
    refused = await fleet.enqueue(fleet.event())
    assert refused.refusal.reason == errors_pb2.ERROR_REASON_SHARD_UNAVAILABLE
    assert not (await fleet.enqueue(fleet.event(1), shard_id=1)).HasField("refusal")
    described = await fleet.stub.DescribeShards(queue_pb2.DescribeShardsRequest(), metadata=fleet.peer.metadata)
    assert "removed" in described.shards[0].state_reason and not path.exists()


async def test_a_failed_commit_is_answered_as_unknown_and_the_shard_opened_anew(fleet: QueueNodeHere) -> None:
    import apsw

    writer = next(iter(fleet.shards))

    def break_once(shard: Any) -> None:
        def commit() -> None:
            raise apsw.IOError("disk I/O error")

        shard.database.commit = commit

    await writer.call(break_once)
    event = fleet.event()
    unknown = await fleet.enqueue(event)
    assert unknown.refusal.reason == errors_pb2.ERROR_REASON_OUTCOME_UNKNOWN
    await eventually(lambda: writer.state == queue_pb2.SHARD_STATE_SERVING and fleet.shards.record(0)[1] == 2)
    assert (await fleet.enqueue(event)).depth == 1
    assert (await fleet.enqueue(event)).duplicate_indexes == [0]


async def test_a_draining_node_settles_and_closes_clean(fleet: QueueNodeHere) -> None:
    """What is leased is waited for: a node that ended before would have it run again."""
    await fleet.enqueue(fleet.event())
    poller = await fleet.poller(1)
    (lease,) = (await asyncio.wait_for(poller.read(), 5)).leases
    await fleet.shards.drain()
    waiting = asyncio.create_task(fleet.shards.wait_leases_end())
    assert (await fleet.enqueue(fleet.event())).refusal.reason == errors_pb2.ERROR_REASON_DRAINING
    assert not waiting.done()
    assert not (
        await fleet.settle(
            queue_pb2.Settlement(receipt=lease.receipt, ack=queue_pb2.Ack(condition=event_pb2.CONDITION_SUCCESS))
        )
    ).refusals
    await asyncio.wait_for(waiting, 5)


def _serve_forever(folder: str) -> None:
    async def serve() -> None:
        fleet = QueueNodeHere(Path(folder))
        await fleet.shards.apply(1, ["queue-0"])
        await fleet.start()
        await asyncio.Event().wait()

    asyncio.run(serve())


async def test_what_was_accepted_survives_kill_9(run_dir: Path) -> None:
    """Killed in the middle of enqueues: every event whose answer came is there after the next start."""
    accepted: set[bytes] = set()
    for _ in range(3):
        process = multiprocessing.get_context("spawn").Process(target=_serve_forever, args=(str(run_dir),), daemon=True)
        process.start()
        client = QueueNodeHere(run_dir)
        await asyncio.wait_for(client.peer.channel.channel_ready(), 20)
        call = client.stub.Enqueue(metadata=client.peer.metadata)
        sent: dict[int, list[bytes]] = {}
        goal = len(accepted) + 2_000

        async def feed(call: Any = call, sent: dict[int, list[bytes]] = sent, client: QueueNodeHere = client) -> None:
            for number in range(1, 100_000):
                events = [client.event() for _ in range(20)]
                sent[number] = [event.request_id for event in events]
                await call.write(
                    queue_pb2.EnqueueRequest(batch_id=number, shard_map_epoch=1, shard_id=0, events=events)
                )

        feeder = asyncio.create_task(feed())
        while True:
            try:
                response = await call.read()
            except grpc.aio.AioRpcError:
                break
            if response is grpc.aio.EOF:
                break
            assert not response.HasField("refusal")
            accepted.update(sent[response.batch_id])
            if len(accepted) >= goal and process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
                process.join(10)
        feeder.cancel()
        await asyncio.gather(feeder, return_exceptions=True)
        await client.peer.close()
    survivor = QueueNodeHere(run_dir)
    await survivor.shards.apply(1, ["queue-0"])
    writer = next(iter(survivor.shards))
    rows = await writer.call(lambda shard: shard.database.rows("SELECT request_id FROM events"))
    assert len(accepted) >= 6_000
    assert accepted <= {row[0] for row in rows}
    assert writer.stats is None or writer.stats.depth == len(rows)
    await survivor.stop()
