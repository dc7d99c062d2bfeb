"""Where the shards of a node go that is drained, and what a person reads of a move."""

from evenflow.control.v1 import resources_pb2
from evenflow.queue.v1 import queue_pb2

from cli.commands.shard_moves import describe_move, spread


def shard_map(*owners: str, **moves: str) -> resources_pb2.ShardMap:
    """Owners by shard; moves as s3="queue-1"."""
    found = resources_pb2.ShardMap(epoch=9, owner_node_ids=[f"queue-{owner}" for owner in owners])
    for name, to in moves.items():
        found.moves.add(shard_id=int(name[1:]), to_node_id=to, move_epoch=9)
    return found


def test_shards_go_to_the_node_that_has_the_fewest() -> None:
    """So that all have as many in the end; ties by name."""
    now = shard_map("0", "0", "0", "0", "1", "1", "2")
    assert spread(now, "queue-0", ["queue-1", "queue-2"]) == {0: "queue-2", 1: "queue-1", 2: "queue-2", 3: "queue-1"}
    assert spread(now, "queue-0", ["queue-3"]) == dict.fromkeys(range(4), "queue-3")
    assert spread(now, "queue-9", ["queue-1"]) == {}


def test_moves_under_way_count_where_they_end() -> None:
    """A shard that leaves the node already goes where it is bound for."""
    now = shard_map("0", "0", "1", s0="queue-2", s2="queue-2")
    assert spread(now, "queue-0", ["queue-1", "queue-2"]) == {0: "queue-2", 1: "queue-1"}


def test_a_line_of_a_move_says_who_does_what_how_far_and_what_is_wrong() -> None:
    """Leases, bytes, trouble."""
    draining = queue_pb2.ShardMoveStatus(shard_id=3, phase=queue_pb2.SHARD_MOVE_PHASE_DRAINING, leases_left=7)
    assert describe_move("queue-0", draining) == "shard 3: queue-0 waits for 7 leases to end"
    fetching = queue_pb2.ShardMoveStatus(
        shard_id=3,
        phase=queue_pb2.SHARD_MOVE_PHASE_FETCHING,
        bytes_done=1 << 20,
        bytes_total=4 << 20,
        trouble="no room",
    )
    fetching.trouble = "no room"
    assert describe_move("queue-1", fetching) == "shard 3: queue-1 fetches it (1.0 MiB of 4.0 MiB); no room"
