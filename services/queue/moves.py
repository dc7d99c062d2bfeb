"""What a node does next for one shard, by the fleet's map and its own manifest. Pure; docs/adr/0009-moving-shards.md.

Each step leaves a durable mark before the next one may be taken, so that a node that dies anywhere takes up the move
where it was. Two rules keep a shard from being served twice: a file is opened only while it is noted as HERE, and a
node that offered its file takes it back only on the word of a newer map.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from services.queue.identity import ShardRecord


class Place(StrEnum):
    """Where a shard's file is in its move, as the manifest notes it; `noted_epoch` says by what."""

    # In its place, to be served. Noted: the epoch of the map that brought it here; 0 for one that was founded here.
    HERE = ""
    # Closed, for the target of a move to fetch. Noted: that move.
    OFFERED = "offered"
    # A whole copy of another node's file beside its place, not served. Noted: the move that it was fetched for.
    FETCHED = "fetched"
    # Given away; there is no file any more. Noted: the epoch of the map that named another owner.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Told:
    """What the fleet's map says of one shard; `move_to` is empty while it does not move."""

    epoch: int
    owner: str
    move_to: str = ""
    move_epoch: int = 0
    # How it arrived at its owner; empty when it was founded there.
    identity: str = ""
    generation: int = 0


class Step(Enum):
    """One step of a node for one shard."""

    # Nothing to do but to wait for another map.
    REST = auto()
    # Open the file and serve it.
    OPEN = auto()
    # Stop serving; the file stays as it is.
    CLOSE = auto()
    # The move was cancelled before the file was closed: hand out leases again.
    RESUME = auto()
    # Source: let leases end, close the file, note it as OFFERED.
    DRAIN = auto()
    # Source: the file was offered for an earlier move that was cancelled; note this one.
    OFFER = auto()
    # Source: the move was cancelled; note the file as HERE.
    RECLAIM = auto()
    # Source: another node owns the shard; remove the file, note it as GONE.
    DROP = auto()
    # Target: get the file, note it as FETCHED.
    FETCH = auto()
    # Target: have control name this node the owner.
    COMPLETE = auto()
    # Target: this node is the owner; put the copy in its place, note it as HERE.
    CLAIM = auto()
    # Target: the move was cancelled; remove the copy.
    DISCARD = auto()


# Steps that take as long as other processes make them; a node may start before they are done.
LONG_STEPS = (Step.DRAIN, Step.FETCH, Step.COMPLETE)


def next_step(node_id: str, told: Told, record: ShardRecord | None, *, is_open: bool, is_leaving: bool) -> Step:
    """The next step of this node; `is_open`: it serves the shard, `is_leaving`: but hands out no leases any more."""
    place = Place(record.place) if record is not None else None
    noted = record.noted_epoch if record is not None else 0
    if told.epoch < noted:
        # The map is from before what the manifest notes: a snapshot, while control is down. A file that is HERE was
        # given to nobody since, as that takes this node's own part in a move.
        return Step.OPEN if place is Place.HERE and not is_open else Step.REST
    if told.owner == node_id:
        return _step_of_owner(told, place, noted, is_open=is_open, is_leaving=is_leaving)
    if is_open:
        return Step.CLOSE
    if place is Place.OFFERED:
        # Only a whole copy of what was offered makes somebody else the owner.
        return Step.DROP
    if told.move_to == node_id:
        if place is Place.FETCHED and noted == told.move_epoch:
            return Step.COMPLETE
        # A file that is HERE is never written over, whatever the map says.
        return Step.REST if place is Place.HERE else Step.FETCH
    return Step.DISCARD if place is Place.FETCHED else Step.REST


def _step_of_owner(told: Told, place: Place | None, noted: int, *, is_open: bool, is_leaving: bool) -> Step:
    if place is Place.FETCHED:
        return Step.CLAIM
    if place is Place.OFFERED:
        if not told.move_to:
            return Step.RECLAIM
        return Step.REST if noted == told.move_epoch else Step.OFFER
    # A shard that is not here although the map says so is opened all the same: that fails, with words.
    if told.move_to and place is not Place.GONE:
        return Step.DRAIN
    if not is_open:
        return Step.OPEN
    return Step.RESUME if is_leaving else Step.REST


def why_not_to_open(shard_id: int, told: Told | None, record: ShardRecord | None) -> str | None:
    """Why the file, if there is one, must not be opened; None: it may. A shard that moved is never begun anew."""
    if record is not None and record.place != Place.HERE:
        return f"shard {shard_id} is not here, the manifest says {Place(record.place).name.lower()} ({record.peer})"
    if told is None or not told.identity:
        return None
    if record is None:
        return f"shard {shard_id} moved here as {told.identity}, but the manifest does not know it: restore both"
    if record.identity != told.identity or record.generation < told.generation:
        return (
            f"shard {shard_id} moved here as {told.identity}, generation {told.generation}; the manifest has "
            f"{record.identity}, generation {record.generation}: another file or an old copy"
        )
    return None
