"""`evenflow shards move` and `evenflow shards drain`: shards change their queue node."""

import time
from collections import Counter
from typing import Annotated

import grpc
import typer
from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.queue.v1 import queue_pb2

from cli.commands.options import DataOption
from cli.connection import FleetConnection
from cli.failures import CliError, describe_refusal, from_rpc
from cli.output import print_line, size_of

POLL_SECONDS = 0.1
REPEAT_SECONDS = 2.0
DEFAULT_TIMEOUT_SECONDS = 600.0
MAX_TIMEOUT_SECONDS = 86_400.0
# Shards that a drain has under way at once: their copies share two disks.
PARALLEL_MOVES = 2
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout", min=0.1, max=MAX_TIMEOUT_SECONDS, help="Seconds to wait; the move goes on by itself after it."
    ),
]


def move(
    shard_id: Annotated[int, typer.Argument(metavar="SHARD", help="The shard.", min=0)],
    to: Annotated[str, typer.Option("--to", metavar="NODE", help="Queue node that gets it, such as queue-1.")],
    timeout: TimeoutOption = DEFAULT_TIMEOUT_SECONDS,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return once the move is recorded.")] = False,
    data: DataOption = None,
) -> None:
    """Move a shard, with all that is in it, to another queue node.

    While its file is on the way the shard takes no events and others are chosen. Moving it to the node that has it
    cancels a move that is under way.
    """
    with FleetConnection(data) as fleet:
        before = shard_map(fleet)
        if shard_id < len(before.owner_node_ids) and before.owner_node_ids[shard_id] == to:
            if not any(one.shard_id == shard_id for one in before.moves):
                print_line(f"shard {shard_id} is on {to}")
                return
            _begin(fleet, shard_id, to)
            print_line(f"cancelled: shard {shard_id} stays on {to}")
            return
        _begin(fleet, shard_id, to)
        if no_wait:
            print_line(f"shard {shard_id} begins to move to {to}: evenflow shards shows when it is there")
            return
        started = time.monotonic()
        _Watch(fleet, {shard_id: to}, started + timeout).wait()
        print_line(f"shard {shard_id} is on {to} ({time.monotonic() - started:.1f} s)")


def drain(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Queue node to empty, such as queue-1.")],
    timeout: TimeoutOption = DEFAULT_TIMEOUT_SECONDS,
    data: DataOption = None,
) -> None:
    """Move every shard of a queue node to the others, spread evenly."""
    with FleetConnection(data) as fleet:
        started = time.monotonic()
        deadline = started + timeout
        now = shard_map(fleet)
        others = [name for name in alive_queue_nodes(fleet) if name != node]
        if node not in (*now.owner_node_ids, *fleet.queue_nodes()):
            raise CliError(f"{node} is no queue node of this fleet, which has {', '.join(fleet.queue_nodes())}")
        if not others:
            raise CliError("no other queue node is alive to take the shards: start one (evenflow up --queues)")
        _refuse_arrivals(now, node)
        waiting = list(spread(now, node, others).items())
        total, done = len(waiting), 0
        under_way: dict[int, str] = {}
        watch = _Watch(fleet, under_way, deadline)
        while waiting or under_way:
            while waiting and len(under_way) < PARALLEL_MOVES:
                shard_id, to = waiting.pop(0)
                _begin(fleet, shard_id, to)
                under_way[shard_id] = to
            for shard_id in watch.wait():
                done += 1
                print_line(f"shard {shard_id} is on {under_way.pop(shard_id)} ({done} of {total})")
        print_line(f"{node} has no shards ({time.monotonic() - started:.1f} s)")


def spread(now: resources_pb2.ShardMap, node_id: str, others: list[str]) -> dict[int, str]:
    """Where each shard of a node goes: to the one with the fewest, moves under way counted as done. Pure."""
    target_of = {move.shard_id: move.to_node_id for move in now.moves}
    counts = Counter(dict.fromkeys(others, 0))
    for shard_id, owner in enumerate(now.owner_node_ids):
        holder = target_of.get(shard_id, owner)
        if holder in counts:
            counts[holder] += 1
    found: dict[int, str] = {}
    for shard_id, owner in enumerate(now.owner_node_ids):
        if owner != node_id:
            continue
        if shard_id in target_of:
            found[shard_id] = target_of[shard_id]
            continue
        name = min(others, key=lambda one: (counts[one], one))
        counts[name] += 1
        found[shard_id] = name
    return found


def shard_map(fleet: FleetConnection) -> resources_pb2.ShardMap:
    """The map as control has it now."""
    for resource in fleet.resources():
        if resource.HasField("shard_map"):
            return resource.shard_map
    raise CliError("control does not tell the shard map")


def alive_queue_nodes(fleet: FleetConnection) -> list[str]:
    """Queue nodes that may be given shards."""
    members = fleet.ask(fleet.control.ListMembers, control_pb2.ListMembersRequest()).members
    alive, queue = resources_pb2.MEMBER_STATE_ALIVE, resources_pb2.NODE_ROLE_QUEUE
    return [member.node_id for member in members if member.role == queue and member.state == alive]


def _begin(fleet: FleetConnection, shard_id: int, to: str) -> None:
    fleet.ask(fleet.control.MoveShard, control_pb2.MoveShardRequest(shard_id=shard_id, to_node_id=to))


def _refuse_arrivals(now: resources_pb2.ShardMap, node_id: str) -> None:
    arriving = [str(move.shard_id) for move in now.moves if move.to_node_id == node_id]
    if arriving:
        raise CliError(f"shard {', '.join(arriving)} is on its way to {node_id}: wait for that, or cancel it")


class _Watch:
    """Waits for moves; says what happens meanwhile."""

    def __init__(self, fleet: FleetConnection, targets: dict[int, str], deadline: float) -> None:
        self._fleet = fleet
        # The caller's own: what is done leaves it.
        self._targets = targets
        self._deadline = deadline
        self._said: dict[tuple[str, int], tuple[object, float]] = {}

    def wait(self) -> list[int]:
        """Until one of the moves is done; those that are. CliError: one was cancelled, or time is over."""
        while True:
            try:
                done = self._done(shard_map(self._fleet))
            except grpc.RpcError as e:
                refusal = from_rpc(e)
                if not refusal.kind.retryable or time.monotonic() > self._deadline:
                    raise CliError(describe_refusal(refusal)) from None
                # Control restarts: the move goes on meanwhile.
                done = []
            if done:
                return done
            if time.monotonic() > self._deadline:
                shards = ", ".join(map(str, self._targets))
                raise CliError(f"shard {shards} has not moved yet; it goes on by itself: evenflow shards shows how far")
            self._tell()
            time.sleep(POLL_SECONDS)

    def _done(self, now: resources_pb2.ShardMap) -> list[int]:
        moving = {move.shard_id: move.to_node_id for move in now.moves}
        found = []
        for shard_id, to in self._targets.items():
            if moving.get(shard_id) == to:
                continue
            if now.owner_node_ids[shard_id] != to:
                raise CliError(f"the move of shard {shard_id} to {to} was cancelled")
            if self._is_served(shard_id, to):
                found.append(shard_id)
        return found

    def _is_served(self, shard_id: int, node_id: str) -> bool:
        node = self._fleet.queue_nodes().get(node_id)
        if node is None:
            return True
        shards = self._fleet.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest()).shards
        taking = (queue_pb2.SHARD_STATE_SERVING, queue_pb2.SHARD_STATE_DRAINING)
        for shard in shards:
            if shard.depth.shard_id == shard_id and shard.state_reason:
                raise CliError(f"shard {shard_id} moved, but {node_id} cannot serve it: {shard.state_reason}")
        return any(s.depth.shard_id == shard_id and s.depth.state in taking for s in shards)

    def _tell(self) -> None:
        for node_id, one in moves_under_way(self._fleet):
            if one.shard_id not in self._targets:
                continue
            what, now = (one.phase, one.trouble), time.monotonic()
            said, at = self._said.get((node_id, one.shard_id), (None, 0.0))
            if said != what or now - at >= REPEAT_SECONDS:
                self._said[node_id, one.shard_id] = what, now
                print_line(describe_move(node_id, one))


def moves_under_way(fleet: FleetConnection) -> list[tuple[str, queue_pb2.ShardMoveStatus]]:
    """What each node does for moves, by its id; nodes that do not answer are left out."""
    found: list[tuple[str, queue_pb2.ShardMoveStatus]] = []
    for node_id, node in fleet.queue_nodes().items():
        try:
            moves = fleet.ask(node.DescribeShards, queue_pb2.DescribeShardsRequest()).moves
        except grpc.RpcError:
            continue
        found += [(node_id, one) for one in moves]
    return found


def describe_move(node_id: str, move: queue_pb2.ShardMoveStatus) -> str:
    """One line of how far a move is at one of its nodes."""
    what = {
        queue_pb2.SHARD_MOVE_PHASE_DRAINING: f"{node_id} waits for {move.leases_left} leases to end",
        queue_pb2.SHARD_MOVE_PHASE_OFFERED: f"closed on {node_id}",
        queue_pb2.SHARD_MOVE_PHASE_FETCHING: f"{node_id} fetches it",
        queue_pb2.SHARD_MOVE_PHASE_COMPLETING: f"{node_id} has it and asks control for it",
    }.get(move.phase, "moves")
    if move.bytes_total:
        what += f" ({size_of(move.bytes_done)} of {size_of(move.bytes_total)})"
    return f"shard {move.shard_id}: {what}" + (f"; {move.trouble}" if move.trouble else "")
