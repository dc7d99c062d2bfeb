"""What a node does about shards that the map names as its own and that it does not have as they arrived."""

from pathlib import Path

from evenflow.control.v1 import resources_pb2
from evenflow.queue.v1 import queue_pb2

from services.queue.identity import shard_path
from services.queue.settings import QueueSettings
from services.queue.shards import Shards
from services.shared.clock import SystemClock
from tests.kit.waiting import eventually

ARRIVED = resources_pb2.ShardArrival(shard_id=0, identity="f" * 32, generation=4, move_epoch=2)


async def test_a_lost_folder_is_no_empty_shard(tmp_path: Path) -> None:
    """Quarantined with its identity, no file is made; a shard that was founded here is served beside it."""
    settings = QueueSettings(node_id="queue-1", data_dir=str(tmp_path), run_dir=str(tmp_path), token_file="")
    shards = Shards(settings, SystemClock())
    try:
        await shards.apply(3, ["queue-1", "queue-1", "queue-0"], arrivals=[ARRIVED])
        lost, served = shards
        assert lost.state == queue_pb2.SHARD_STATE_QUARANTINED and "f" * 32 in lost.state_reason
        assert served.state == queue_pb2.SHARD_STATE_SERVING
        assert not shard_path(shards.directory, 0).exists()
    finally:
        await shards.stop()


async def test_what_was_offered_is_taken_back_by_a_newer_map_alone(tmp_path: Path) -> None:
    """After a restart neither the snapshot from before the move nor the move itself opens it; its end does."""
    settings = QueueSettings(node_id="queue-0", data_dir=str(tmp_path), run_dir=str(tmp_path), token_file="")
    move = resources_pb2.ShardMove(shard_id=0, to_node_id="queue-1", move_epoch=2)
    shards = Shards(settings, SystemClock())
    await shards.apply(1, ["queue-0"])
    identity, generation = shards.record(0)
    (keeper,) = shards.take(2, ["queue-0"], [move])
    await eventually(lambda: keeper.is_done, 5, "the file to be closed")
    assert [status.phase for status in shards.move_statuses()] == [queue_pb2.SHARD_MOVE_PHASE_OFFERED]
    assert not list(shards)
    await shards.stop()

    again = Shards(settings, SystemClock())
    await again.apply(1, ["queue-0"])
    assert not list(again)
    await again.apply(2, ["queue-0"], [move])
    assert not list(again)
    await again.apply(3, ["queue-0"])
    try:
        (writer,) = again
        assert writer.state == queue_pb2.SHARD_STATE_SERVING
        assert again.record(0) == (identity, generation + 1)
    finally:
        await again.stop()
