"""What control decides about moves: who may get a shard, and that only the move under way is completed."""

import pytest
from evenflow.common.v1 import errors_pb2
from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import founding, shard_moves
from services.control.changes import Change
from services.control.settings import ControlSettings
from services.control.state import State
from services.shared.errors import EvenflowError

IDENTITY = "a" * 32
ALIVE = resources_pb2.MEMBER_STATE_ALIVE


def member(
    node_id: str, state: "resources_pb2.MemberState.ValueType" = ALIVE, role: str = "QUEUE"
) -> resources_pb2.Resource:
    found = resources_pb2.Member(
        node_id=node_id, role=resources_pb2.NodeRole.Value(f"NODE_ROLE_{role}"), incarnation="i", state=state
    )
    return resources_pb2.Resource(key=f"member/{node_id}", member=found)


def fleet() -> State:
    """Two shards on queue-0; queue-1 and queue-2 alive; queue-3 gone; a poller."""
    shard_map = resources_pb2.ShardMap(epoch=1, owner_node_ids=["queue-0", "queue-0"])
    members = [
        *(member(f"queue-{n}") for n in range(3)),
        member("queue-3", resources_pb2.MEMBER_STATE_GONE),
        member("poller-0", role="POLLER"),
    ]
    return State(1, [resources_pb2.Resource(key="shard-map", shard_map=shard_map), *members])


def move(state: State, shard_id: int, to: str) -> resources_pb2.ShardMap:
    change = Change(state.revision + 1)
    answer = shard_moves.decide_move(change, state, shard_id, to)
    state.apply(state.revision + 1, change.upserts, ())
    return answer.shard_map


def complete(
    state: State, move_epoch: int, node_id: str = "queue-1", generation: int = 3, identity: str = IDENTITY
) -> resources_pb2.ShardMap:
    change = Change(state.revision + 1)
    request = control_pb2.CompleteMoveRequest(
        shard_id=0, node_id=node_id, move_epoch=move_epoch, identity=identity, generation=generation
    )
    answer = shard_moves.decide_complete(change, state, request)
    state.apply(state.revision + 1, change.upserts, ())
    return answer.shard_map


def test_a_move_is_recorded_completed_and_may_be_repeated() -> None:
    """The owner changes only with the completion; each step is an epoch, a repeat is none."""
    state = fleet()
    begun = move(state, 0, "queue-1")
    assert (begun.epoch, begun.owner_node_ids[0]) == (2, "queue-0")
    assert [(m.shard_id, m.to_node_id, m.move_epoch) for m in begun.moves] == [(0, "queue-1", 2)]
    assert move(state, 0, "queue-1").epoch == 2
    done = complete(state, 2)
    assert (done.epoch, list(done.owner_node_ids), len(done.moves)) == (3, ["queue-1", "queue-0"], 0)
    assert [(a.identity, a.generation, a.move_epoch) for a in done.arrivals] == [(IDENTITY, 3, 2)]
    assert complete(state, 2).epoch == 3


def test_moving_back_to_the_owner_cancels() -> None:
    """And the cancelled move cannot be completed any more, nor when the same one is begun anew."""
    state = fleet()
    move(state, 0, "queue-1")
    assert not move(state, 0, "queue-0").moves
    with pytest.raises(EvenflowError, match="cancelled"):
        complete(state, 2)
    again = move(state, 0, "queue-1")
    assert again.moves[0].move_epoch == again.epoch == 4
    with pytest.raises(EvenflowError, match="cancelled"):
        complete(state, 2)
    assert complete(state, 4).owner_node_ids[0] == "queue-1"


@pytest.mark.parametrize(
    ("shard_id", "to", "reason"),
    [
        (2, "queue-1", "INVALID_PARAMETER"),
        (0, "queue-9", "INVALID_PARAMETER"),
        (0, "poller-0", "INVALID_PARAMETER"),
        (0, "queue-3", "UNAVAILABLE"),
        (0, "queue-0", "RESOURCE_CONFLICT"),
        (1, "queue-2", "RESOURCE_CONFLICT"),
    ],
)
def test_what_is_refused(shard_id: int, to: str, reason: str) -> None:
    """No such shard, no such node, not alive, there already, another move under way: nothing changes."""
    state = fleet()
    move(state, 1, "queue-1")
    with pytest.raises(EvenflowError) as caught:
        move(state, shard_id, to)
    assert errors_pb2.ErrorReason.Name(caught.value.reason) == f"ERROR_REASON_{reason}"
    assert state.shard_map.epoch == 2


def test_only_the_target_completes_with_the_file_that_the_shard_had() -> None:
    """Another node, another file and an older copy are refused."""
    state = fleet()
    move(state, 0, "queue-1")
    with pytest.raises(EvenflowError, match="queue-2"):
        complete(state, 2, node_id="queue-2")
    complete(state, 2, generation=7)
    begun = move(state, 0, "queue-2")
    for identity, generation in (("b" * 32, 9), (IDENTITY, 6)):
        with pytest.raises(EvenflowError, match="another file"):
            complete(state, begun.epoch, "queue-2", generation, identity)
    assert complete(state, begun.epoch, "queue-2", 8).arrivals[0].generation == 8


def test_moves_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is told."""
    monkeypatch.setattr(shard_moves, "MAX_MOVES", 1)
    state = fleet()
    move(state, 0, "queue-1")
    with pytest.raises(EvenflowError, match="the most there may be"):
        move(state, 1, "queue-1")


def settings_with(queue_nodes: str, shards: int = 0) -> ControlSettings:
    return ControlSettings(
        node_id="control", data_dir="/d", run_dir="/r", token_file="/t", queue_nodes=queue_nodes, shards=shards
    )


def test_shards_are_founded_round_robin_and_more_nodes_may_join() -> None:
    """Fewer nodes than have shards, or are to get some, are refused by name."""
    founded = founding.found(settings_with("queue-0,queue-1", 5), "f")
    owners = next(r.shard_map.owner_node_ids for r in founded if r.HasField("shard_map"))
    assert list(owners) == ["queue-0", "queue-1", "queue-0", "queue-1", "queue-0"]
    with pytest.raises(ValueError, match="3 nodes for 2 shards"):
        founding.found(settings_with("queue-0,queue-1,queue-2", 2), "f")
    state = State(1, founded)
    founding.require_same(settings_with("queue-0,queue-1,queue-2,queue-3"), state)
    founding.require_same(settings_with(""), state)
    with pytest.raises(ValueError, match=r"shards on queue-1 \(1, 3\).*shards drain queue-1"):
        founding.require_same(settings_with("queue-0"), state)
    state.apply(2, [member("queue-2")], ())
    move(state, 0, "queue-2")
    with pytest.raises(ValueError, match=r"shards on queue-2 \(0\)"):
        founding.require_same(settings_with("queue-0,queue-1"), state)
