"""Which node a shard moves to, and when it is there: decides changes of the shard map. Pure.

See docs/adr/0009-moving-shards.md for why each step may be lost or repeated.
"""

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.changes import Change
from services.control.members import ALIVE
from services.control.state import State
from services.shared.errors import EvenflowError, Reason, invalid

MAX_MOVES = 1_024
IDENTITY_CHARACTERS = 32
MAP_KEY = "shard-map"


def decide_move(change: Change, state: State, shard_id: int, to_node_id: str) -> control_pb2.MoveShardResponse:
    """Begin a move, or cancel it when the target is the owner. EvenflowError: see the contract."""
    shard_map = state.shard_map
    owner = _owner_of(shard_map, shard_id)
    move = _move_of(shard_map, shard_id)
    if move is not None and move.to_node_id == to_node_id:
        return control_pb2.MoveShardResponse(shard_map=shard_map)
    if move is not None and owner == to_node_id:
        fresh = _next(shard_map)
        _drop_move(fresh, shard_id)
        _store(change, fresh)
        return control_pb2.MoveShardResponse(shard_map=fresh)
    if move is not None:
        text = (
            f"shard {shard_id} is on its way from {owner} to {move.to_node_id}: wait, or cancel it by moving to {owner}"
        )
        raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text, metadata={"to_node_id": move.to_node_id})
    if owner == to_node_id:
        raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, f"shard {shard_id} is on {owner} already")
    _check_target(state, to_node_id)
    if len(shard_map.moves) >= MAX_MOVES:
        text = f"{MAX_MOVES:,} moves are under way, the most there may be: wait for one to end"
        raise EvenflowError(Reason.ERROR_REASON_NO_CAPACITY, text, retry_after_ms=1_000)
    fresh = _next(shard_map)
    fresh.moves.add(shard_id=shard_id, to_node_id=to_node_id, move_epoch=fresh.epoch)
    fresh.moves.sort(key=lambda one: one.shard_id)
    _store(change, fresh)
    return control_pb2.MoveShardResponse(shard_map=fresh)


def decide_complete(
    change: Change, state: State, request: control_pb2.CompleteMoveRequest
) -> control_pb2.CompleteMoveResponse:
    """Make a move's target the owner. EvenflowError RESOURCE_CONFLICT: that move is not under way."""
    shard_map, shard_id = state.shard_map, request.shard_id
    owner = _owner_of(shard_map, shard_id)
    arrival = resources_pb2.ShardArrival(
        shard_id=shard_id, identity=request.identity, generation=request.generation, move_epoch=request.move_epoch
    )
    if owner == request.node_id and arrival in shard_map.arrivals:
        # The answer to the first call was lost.
        return control_pb2.CompleteMoveResponse(shard_map=shard_map)
    move = _move_of(shard_map, shard_id)
    if move is None or move.move_epoch != request.move_epoch or move.to_node_id != request.node_id:
        name = f"move {request.move_epoch} of shard {shard_id} to {request.node_id[:80]}"
        text = f"there is no {name}: it was cancelled, or ended"
        raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text)
    if len(request.identity) != IDENTITY_CHARACTERS or not request.generation:
        raise invalid("identity must have 32 characters and generation must not be 0")
    before = _arrival_of(shard_map, shard_id)
    if before is not None and (before.identity != request.identity or before.generation > request.generation):
        known = f"identity {before.identity}, generation {before.generation} or more"
        text = f"shard {shard_id} has {known}: this is another file, or an old copy"
        raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text)
    fresh = _next(shard_map)
    _drop_move(fresh, shard_id)
    fresh.owner_node_ids[shard_id] = request.node_id
    arrivals = sorted([*(a for a in fresh.arrivals if a.shard_id != shard_id), arrival], key=lambda a: a.shard_id)
    del fresh.arrivals[:]
    fresh.arrivals.extend(arrivals)
    _store(change, fresh)
    return control_pb2.CompleteMoveResponse(shard_map=fresh)


def _check_target(state: State, node_id: str) -> None:
    member = state.members.get(node_id)
    if member is None or member.role != resources_pb2.NODE_ROLE_QUEUE:
        known = [m.node_id for m in state.members.values() if m.role == resources_pb2.NODE_ROLE_QUEUE]
        names = ", ".join(sorted(known)) or "none"
        raise invalid(f"{node_id[:80]!r} is no queue node of this fleet, which has {names}")
    if member.state != ALIVE:
        name = resources_pb2.MemberState.Name(member.state).removeprefix("MEMBER_STATE_").lower()
        text = f"{node_id} is {name}: start it, or choose another node"
        raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, text, retry_after_ms=1_000)


def _owner_of(shard_map: resources_pb2.ShardMap, shard_id: int) -> str:
    count = len(shard_map.owner_node_ids)
    if shard_id >= count:
        raise invalid(f"shard {shard_id} is not in this fleet, which has shards 0 to {count - 1}")
    return shard_map.owner_node_ids[shard_id]


def _move_of(shard_map: resources_pb2.ShardMap, shard_id: int) -> resources_pb2.ShardMove | None:
    return next((move for move in shard_map.moves if move.shard_id == shard_id), None)


def _arrival_of(shard_map: resources_pb2.ShardMap, shard_id: int) -> resources_pb2.ShardArrival | None:
    return next((arrival for arrival in shard_map.arrivals if arrival.shard_id == shard_id), None)


def _next(shard_map: resources_pb2.ShardMap) -> resources_pb2.ShardMap:
    # Resources are never changed once they are in the state.
    fresh = resources_pb2.ShardMap()
    fresh.CopyFrom(shard_map)
    fresh.epoch += 1
    return fresh


def _drop_move(shard_map: resources_pb2.ShardMap, shard_id: int) -> None:
    left = [move for move in shard_map.moves if move.shard_id != shard_id]
    del shard_map.moves[:]
    shard_map.moves.extend(left)


def _store(change: Change, shard_map: resources_pb2.ShardMap) -> None:
    change.upserts.append(resources_pb2.Resource(key=MAP_KEY, shard_map=shard_map))
