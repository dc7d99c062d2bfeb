"""Shards move between real queue nodes while events flow; nodes and control are killed at every step of it."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from evenflow.common.v1 import errors_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from services.shared.errors import EvenflowError
from tests.integration.poller.rig import succeeded
from tests.integration.queue.rig import MOVE_SECONDS, NODES, SHARD, Traffic, TwoQueues, shard_of_token
from tests.kit.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
Reason = errors_pb2.ErrorReason
KILLS = [
    # The source: drains, closes, offers, sends, removes.
    ("source", "Keeper._drain before"),
    ("source", "Marks.note before"),
    ("source", "Marks.note after"),
    ("source", "OfferedFile.read after"),
    ("source", "remove_file before"),
    ("source", "remove_file after"),
    # The target: writes, notes the copy, has it completed, puts it in place.
    ("target", "IncomingFile.write after"),
    ("target", "Marks.note_fetched before"),
    ("target", "Marks.note_fetched after"),
    ("target", "GrpcCourier.complete after"),
    ("target", "put_in_place after"),
    ("target", "Marks.claim after"),
    # Control: before and after it stored who owns the shard.
    ("control", "decide_complete before"),
    ("control", "NodeCalls.CompleteMove after"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[TwoQueues]:
    """One fleet for all tests of this file."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    made = TwoQueues(folder)
    try:
        await made.start()
        await made.deploy("f", lambda _invocation: succeeded())
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(loop_scope="module")
async def route(rig: TwoQueues) -> tuple[str, str]:
    """(source, target) of the shard's next move."""
    source = (await rig.shard_map()).owner_node_ids[SHARD]
    return source, NODES[1 - NODES.index(source)]


async def test_a_shard_moves_with_its_events(rig: TwoQueues, route: tuple[str, str]) -> None:
    """Ended events are known at the new node, under the same ids; the old one has no file left."""
    source, target = route
    assert list((await rig.shard_map()).owner_node_ids) == ["queue-0", "queue-1", "queue-0"]
    async with Traffic(rig, "f") as traffic:
        await rig.move(target)
        await until(lambda: rig.is_moved(target), MOVE_SECONDS, "the move")
    await traffic.check_all_handled()
    assert rig.files() == {source: [], target: ["shard-0000.db"]}


@pytest.mark.parametrize(("victim", "point"), KILLS, ids=[f"{victim}: {point}" for victim, point in KILLS])
async def test_a_move_survives_kill_9(rig: TwoQueues, route: tuple[str, str], victim: str, point: str) -> None:
    """Killed at this point and started again: the move ends, one node has the shard, every event is handled."""
    source, target = route
    node_id = {"source": source, "target": target, "control": "control"}[victim]
    rig.kills.ask(node_id, point)
    async with Traffic(rig, "f") as traffic:
        await rig.move(target)
        assert await asyncio.to_thread(rig.processes.wait, node_id) == -9
        assert len(await rig.holders()) <= 1
        await asyncio.to_thread(rig.processes.restart, node_id)
        await until(lambda: rig.is_moved(target), MOVE_SECONDS, "the move")
    await traffic.check_all_handled()
    assert rig.files() == {source: [], target: ["shard-0000.db"]}


async def test_a_cancelled_move_leaves_everything_where_it_was(rig: TwoQueues, route: tuple[str, str]) -> None:
    """The target is away, so the source has closed its file and waits; cancelled, it serves again."""
    source, target = route
    await asyncio.to_thread(rig.processes.kill, target)
    async with Traffic(rig, "f") as traffic:
        await rig.move(target)

        async def is_offered() -> bool:
            moves = (await rig.describe())[source].moves
            return any(move.phase == queue_pb2.SHARD_MOVE_PHASE_OFFERED for move in moves)

        await until(is_offered, 10, "the file to be closed")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.event(ids.mint(0, SHARD))
        error = EvenflowError.from_rpc_error(caught.value)
        assert error.reason == Reason.ERROR_REASON_SHARD_UNAVAILABLE and target in error.message
        await rig.move(source)

        async def is_served() -> bool:
            return await rig.holders() == [source]

        await until(is_served, 10, "the shard to be served again")
        await asyncio.to_thread(rig.processes.restart, target)
    await traffic.check_all_handled()
    assert rig.files()[source] == ["shard-0000.db"] and not rig.files()[target]


async def test_only_the_target_of_a_move_gets_the_file(rig: TwoQueues, route: tuple[str, str]) -> None:
    """No move, and another node's name: typed refusals, no byte."""
    source, target = route
    queue = rig.queues[source]

    async def fetch(move_epoch: int, node_id: str) -> EvenflowError:
        request = queue_pb2.FetchShardRequest(shard_id=SHARD, move_epoch=move_epoch, node_id=node_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in queue.FetchShard(request, metadata=rig.metadata, timeout=5):
                raise AssertionError("a byte came")
        return EvenflowError.from_rpc_error(caught.value)

    assert (await fetch(1, target)).reason == Reason.ERROR_REASON_SHARD_UNAVAILABLE
    await asyncio.to_thread(rig.processes.kill, target)
    await rig.move(target)
    move_epoch = (await rig.shard_map()).moves[0].move_epoch

    async def is_known() -> bool:
        return (await fetch(move_epoch, "queue-7")).reason == Reason.ERROR_REASON_ACCESS_DENIED

    await until(is_known, 5, "the source to know of the move")
    await rig.move(source)
    await asyncio.to_thread(rig.processes.restart, target)


async def test_a_token_meets_its_first_copy_at_the_new_node(rig: TwoQueues, route: tuple[str, str]) -> None:
    """Its shard moves between two tries: one event; another body is refused by the node that never saw the first."""
    _, target = route
    token = next(t for t in (f"token-{n}" for n in range(1_000)) if shard_of_token(t) == SHARD)

    async def send(payload: bytes) -> frontend_pb2.InvokeAsyncResponse:
        event = frontend_pb2.EventSubmission(function_name="f", payload=payload, client_token=token)
        request = frontend_pb2.InvokeAsyncRequest(event=event)
        return await rig.door.InvokeAsync(request, metadata=rig.metadata, timeout=10)  # type: ignore[no-any-return]

    first = await send(b"1")
    await rig.move(target)
    # Sent while the shard is on its way: it waits at the door and goes to the new owner.
    second = await send(b"1")
    await until(lambda: rig.is_moved(target), MOVE_SECONDS, "the move")
    assert not first.duplicate and second.duplicate and second.request_id == first.request_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await send(b"2")
    assert EvenflowError.from_rpc_error(caught.value).reason == Reason.ERROR_REASON_TOKEN_REUSED
    await rig.ended(first.request_id, "succeeded")
    assert len(rig.runs("f", first.request_id)) == 1
