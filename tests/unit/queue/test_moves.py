"""Moves of a shard: whatever is lost, late or killed, one node serves it at most, with everything in it."""

import random
from dataclasses import dataclass, replace

import pytest
from evenflow.control.v1 import control_pb2, resources_pb2

from services.control import shard_moves
from services.control.changes import Change
from services.control.state import State
from services.queue.identity import ShardRecord
from services.queue.moves import Place, Step, Told, next_step, why_not_to_open
from services.shared.errors import EvenflowError

NODES = ("queue-0", "queue-1", "queue-2")
IDENTITY = "f" * 32
# A node far behind needs a few maps, each a few steps.
MAX_SETTLING_STEPS = 25
WALKS = 600
WALK_STEPS = 80


@dataclass
class Node:
    """A queue node: what is on its disk, and what it knows."""

    node_id: str
    seen: Told
    record: ShardRecord | None = None
    # Events in the shard's file and in the copy beside it; None: there is none.
    file: frozenset[int] | None = None
    copy: frozenset[int] | None = None
    is_open: bool = False
    is_leaving: bool = False

    def next(self) -> Step:
        """Its next step."""
        return next_step(self.node_id, self.seen, self.record, is_open=self.is_open, is_leaving=self.is_leaving)

    def note(self, place: Place, epoch: int, peer: str = "") -> None:
        """A durable note."""
        assert self.record is not None
        self.record = replace(self.record, place=place.value, noted_epoch=epoch, peer=peer)


def alive_queue_nodes() -> list[resources_pb2.Resource]:
    """Members that may be given shards."""
    return [
        resources_pb2.Resource(
            key=f"member/{node_id}",
            member=resources_pb2.Member(
                node_id=node_id,
                role=resources_pb2.NODE_ROLE_QUEUE,
                incarnation="i",
                state=resources_pb2.MEMBER_STATE_ALIVE,
            ),
        )
        for node_id in NODES
    ]


def told_of(shard_map: resources_pb2.ShardMap) -> Told:
    """What a map says of shard 0."""
    move = shard_map.moves[0] if shard_map.moves else resources_pb2.ShardMove()
    arrival = shard_map.arrivals[0] if shard_map.arrivals else resources_pb2.ShardArrival()
    return Told(
        shard_map.epoch,
        shard_map.owner_node_ids[0],
        move.to_node_id,
        move.move_epoch,
        arrival.identity,
        arrival.generation,
    )


class World:
    """One shard, three nodes, the real decisions of control and of the nodes; disks and wires are this test's."""

    def __init__(self, seed: int) -> None:
        first = resources_pb2.ShardMap(epoch=1, owner_node_ids=[NODES[0]])
        self.state = State(1, [resources_pb2.Resource(key="shard-map", shard_map=first), *alive_queue_nodes()])
        self.maps = [told_of(first)]
        self.nodes = {node_id: Node(node_id, self.maps[0]) for node_id in NODES}
        self.accepted: frozenset[int] = frozenset()
        self.draw = random.Random(seed)

    def happen(self) -> None:
        """One thing, drawn."""
        node = self.nodes[self.draw.choice(NODES)]
        match self.draw.choices(("go on", "accept", "move", "die", "learn"), (12, 4, 2, 2, 2))[0]:
            case "go on":
                node.seen = self.maps[-1]
                for _ in range(self.draw.randint(1, 4)):
                    self._take(node, dies_within=False)
            case "accept" if node.is_open and node.file is not None:
                event = len(self.accepted)
                self.accepted |= {event}
                node.file |= {event}
            case "move":
                self.move(node.node_id)
            case "die":
                # Killed within its step; it starts again with an old snapshot of the map, as control is down.
                self._take(node, dies_within=True)
                node.is_open = node.is_leaving = False
                if node.record is None or node.record.place != Place.FETCHED:
                    node.copy = None
                node.seen = self.maps[-min(len(self.maps), self.draw.randint(1, 8))]
                self._take(node, dies_within=False)
            case "learn":
                # A map, perhaps not the newest; never an older one than the node has.
                told = self.maps[-min(len(self.maps), self.draw.randint(1, 4))]
                if told.epoch > node.seen.epoch:
                    node.seen = told
                self._take(node, dies_within=False)
        self.check()

    def move(self, to: str) -> None:
        """Somebody moves the shard, or cancels its move."""
        change = Change(self.state.revision + 1)
        try:
            shard_moves.decide_move(change, self.state, 0, to)
        except EvenflowError:
            return
        self._commit(change)

    def check(self) -> None:
        """Never two open files; the open one, and some file or copy when none is, has everything."""
        serving = [node for node in self.nodes.values() if node.is_open]
        assert len(serving) <= 1
        for node in serving:
            assert node.file == self.accepted
        if self.accepted:
            assert any(self.accepted in (node.file, node.copy) for node in self.nodes.values())

    def settle(self) -> None:
        """Left alone, every move ends, and the owner serves everything."""
        for _ in range(MAX_SETTLING_STEPS):
            for node in self.nodes.values():
                node.seen = self.maps[-1]
                self._take(node, dies_within=False)
                self.check()
        owner = self.maps[-1].owner
        assert not self.maps[-1].move_to
        for node in self.nodes.values():
            assert node.is_open == (node.node_id == owner)
            assert node.copy is None and (node.file is None) == (node.node_id != owner)

    # --- the steps, with what a crash in the middle leaves

    def _commit(self, change: Change) -> None:
        if change.is_visible:
            self.state.apply(self.state.revision + 1, change.upserts, ())
            self.maps.append(told_of(self.state.shard_map))

    def _open(self, node: Node) -> None:
        if why_not_to_open(0, node.seen, node.record) is not None:
            return
        if node.record is None:
            node.record, node.file = ShardRecord(IDENTITY, 0, True), frozenset()
        node.record = replace(node.record, generation=node.record.generation + 1, closed="")
        node.is_open = True

    def _take(self, node: Node, *, dies_within: bool) -> None:
        seen = node.seen
        match node.next():
            case Step.OPEN:
                self._open(node)
            case Step.CLOSE:
                node.is_open = node.is_leaving = False
            case Step.RESUME:
                node.is_leaving = False
            case Step.DRAIN:
                if not node.is_open:
                    self._open(node)
                elif not node.is_leaving:
                    node.is_leaving = True
                else:
                    node.is_open = node.is_leaving = False
                    if not dies_within:
                        node.note(Place.OFFERED, seen.move_epoch, seen.move_to)
            case Step.OFFER:
                if not dies_within:
                    node.note(Place.OFFERED, seen.move_epoch, seen.move_to)
            case Step.RECLAIM:
                if not dies_within:
                    node.note(Place.HERE, seen.epoch)
            case Step.DROP:
                node.file = None
                if not dies_within:
                    node.note(Place.GONE, seen.epoch, seen.owner)
            case Step.FETCH:
                self._fetch(node, dies_within=dies_within)
            case Step.COMPLETE:
                self._complete(node, is_answer_lost=dies_within)
            case Step.CLAIM:
                if node.copy is not None:
                    node.file, node.copy = node.copy, None
                if not dies_within:
                    node.note(Place.HERE, seen.epoch)
            case Step.DISCARD:
                node.copy = None
                if not dies_within:
                    node.note(Place.GONE, seen.epoch, seen.owner)

    def _fetch(self, node: Node, *, dies_within: bool) -> None:
        source, told = self.nodes[node.seen.owner], node.seen
        record, knows = source.record, source.seen
        if (knows.move_to, knows.move_epoch) != (node.node_id, told.move_epoch):
            return
        if record is None or record.place != Place.OFFERED or record.noted_epoch != told.move_epoch:
            return
        assert source.file is not None
        node.copy = source.file
        if not dies_within:
            node.record = ShardRecord(
                record.identity, record.generation, True, "stamp", Place.FETCHED.value, told.move_epoch, told.owner
            )

    def _complete(self, node: Node, *, is_answer_lost: bool) -> None:
        assert node.record is not None
        change = Change(self.state.revision + 1)
        request = control_pb2.CompleteMoveRequest(
            shard_id=0,
            node_id=node.node_id,
            move_epoch=node.seen.move_epoch,
            identity=node.record.identity,
            generation=node.record.generation,
        )
        try:
            shard_moves.decide_complete(change, self.state, request)
        except EvenflowError:
            return
        self._commit(change)
        if not is_answer_lost:
            node.seen = self.maps[-1]


def test_whatever_is_lost_late_or_killed_one_node_serves_everything() -> None:
    """Random walks of moves, cancellations, crashes and stale maps, each left alone in the end."""
    for seed in range(WALKS):
        world = World(seed)
        try:
            for _ in range(WALK_STEPS):
                world.happen()
            world.settle()
        except AssertionError as e:
            raise AssertionError(f"seed {seed}: {world.maps[-1]} {world.nodes}") from e


def record(place: Place, noted_epoch: int) -> ShardRecord:
    """A record of a shard that was opened before."""
    return ShardRecord(IDENTITY, 3, True, "stamp", place.value, noted_epoch, "other")


HOME = Told(7, "queue-0")
LEAVES = Told(7, "queue-0", "queue-1", 7)
COMES = Told(7, "queue-1", "queue-0", 7)
AWAY = Told(7, "queue-1")


@pytest.mark.parametrize(
    ("told", "known", "step"),
    [
        (HOME, None, Step.OPEN),
        (HOME, record(Place.HERE, 0), Step.OPEN),
        (HOME, record(Place.OFFERED, 5), Step.RECLAIM),
        (HOME, record(Place.FETCHED, 5), Step.CLAIM),
        (HOME, record(Place.GONE, 5), Step.OPEN),
        (LEAVES, None, Step.DRAIN),
        (LEAVES, record(Place.HERE, 0), Step.DRAIN),
        (LEAVES, record(Place.OFFERED, 7), Step.REST),
        (LEAVES, record(Place.OFFERED, 5), Step.OFFER),
        (LEAVES, record(Place.FETCHED, 5), Step.CLAIM),
        (COMES, None, Step.FETCH),
        (COMES, record(Place.GONE, 5), Step.FETCH),
        (COMES, record(Place.FETCHED, 7), Step.COMPLETE),
        (COMES, record(Place.FETCHED, 5), Step.FETCH),
        (COMES, record(Place.OFFERED, 5), Step.DROP),
        (COMES, record(Place.HERE, 0), Step.REST),
        (AWAY, None, Step.REST),
        (AWAY, record(Place.OFFERED, 5), Step.DROP),
        (AWAY, record(Place.FETCHED, 5), Step.DISCARD),
        (AWAY, record(Place.GONE, 7), Step.REST),
        # Snapshots from before what the manifest notes.
        (HOME, record(Place.OFFERED, 8), Step.REST),
        (HOME, record(Place.GONE, 8), Step.REST),
        (COMES, record(Place.HERE, 8), Step.OPEN),
        (LEAVES, record(Place.GONE, 9), Step.REST),
    ],
)
def test_the_next_step_of_a_closed_shard(told: Told, known: ShardRecord | None, step: Step) -> None:
    """One row a case that the moves of docs/adr/0009 meet."""
    assert next_step("queue-0", told, known, is_open=False, is_leaving=False) is step


def test_an_open_shard_rests_leaves_and_stays() -> None:
    """A cancelled move hands out leases again; a map that names another owner closes it."""
    here = record(Place.HERE, 0)
    assert next_step("queue-0", HOME, here, is_open=True, is_leaving=False) is Step.REST
    assert next_step("queue-0", LEAVES, here, is_open=True, is_leaving=True) is Step.DRAIN
    assert next_step("queue-0", HOME, here, is_open=True, is_leaving=True) is Step.RESUME
    assert next_step("queue-0", AWAY, here, is_open=True, is_leaving=False) is Step.CLOSE


def test_a_shard_that_moved_is_never_begun_anew() -> None:
    """Nor is an older copy opened, nor one that is offered."""
    arrived = replace(HOME, identity=IDENTITY, generation=3)
    assert why_not_to_open(0, HOME, None) is None
    assert why_not_to_open(0, arrived, record(Place.HERE, 7)) is None
    assert "does not know it" in str(why_not_to_open(0, arrived, None))
    assert "old copy" in str(why_not_to_open(0, replace(arrived, generation=4), record(Place.HERE, 7)))
    assert "another file" in str(why_not_to_open(0, replace(arrived, identity="0" * 32), record(Place.HERE, 7)))
    for place in (Place.OFFERED, Place.FETCHED, Place.GONE):
        assert place.name.lower() in str(why_not_to_open(0, HOME, record(place, 5)))
