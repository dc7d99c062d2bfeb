"""The states of an event in a shard: what each is on disk, and how callers see it. Pure."""

import enum

from evenflow.queue.v1 import queue_pb2


class Place(enum.Enum):
    """Where the row of an event is."""

    NOWHERE = "nowhere"
    EVENTS = "events"
    DELAYED = "delayed"
    OUTCOMES = "outcomes_N"
    DEAD_LETTERS = "dead_letters"


class State(enum.IntEnum):
    """Where an event is on its way. The states named HANDOVER are those of an event whose run is over and stored.

    `place`: its row. `has_handover`: the row holds a handover. `is_leased`: a poller has it, which is known in memory
    only. `reported`: the EventState that callers see.
    """

    place: Place
    has_handover: bool
    is_leased: bool
    reported: queue_pb2.EventState.ValueType

    def __new__(
        cls,
        number: int,
        place: Place,
        reported: queue_pb2.EventState.ValueType,
        has_handover: bool = False,
        is_leased: bool = False,
    ) -> "State":
        """A state of these facts."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.place, member.reported = place, reported
        member.has_handover, member.is_leased = has_handover, is_leased
        return member

    # Never seen, or forgotten.
    GONE = 0, Place.NOWHERE, queue_pb2.EVENT_STATE_UNSPECIFIED
    # May be leased, in the fair order and within limits.
    AVAILABLE = 1, Place.EVENTS, queue_pb2.EVENT_STATE_AVAILABLE
    # Past its age and set aside: leased before all others, whatever the limits, so that it is ended.
    EXPIRED = 2, Place.EVENTS, queue_pb2.EVENT_STATE_AVAILABLE
    # Waits for its time.
    DELAYED = 3, Place.DELAYED, queue_pb2.EVENT_STATE_DELAYED
    # A poller has it, to run it.
    LEASED = 4, Place.EVENTS, queue_pb2.EVENT_STATE_LEASED, False, True
    # The same four of an event that was run: only its record has to reach the destination.
    HANDOVER_AVAILABLE = 5, Place.EVENTS, queue_pb2.EVENT_STATE_HANDOVER, True
    HANDOVER_EXPIRED = 6, Place.EVENTS, queue_pb2.EVENT_STATE_HANDOVER, True
    HANDOVER_DELAYED = 7, Place.DELAYED, queue_pb2.EVENT_STATE_HANDOVER, True
    HANDOVER = 8, Place.EVENTS, queue_pb2.EVENT_STATE_HANDOVER, True, True
    # Over.
    SUCCEEDED = 9, Place.OUTCOMES, queue_pb2.EVENT_STATE_SUCCEEDED
    FAILED = 10, Place.OUTCOMES, queue_pb2.EVENT_STATE_FAILED
    # Over until it is redriven.
    DEAD = 11, Place.DEAD_LETTERS, queue_pb2.EVENT_STATE_DEAD

    @property
    def is_live(self) -> bool:
        """Whether it counts in the depth: stored and not over."""
        return self.place in (Place.EVENTS, Place.DELAYED)


def stored_state(place: Place, *, has_handover: bool) -> State:
    """The state of a live event that only its row tells of: as after a start. `place`: EVENTS or DELAYED."""
    if place is Place.DELAYED:
        return State.HANDOVER_DELAYED if has_handover else State.DELAYED
    return State.HANDOVER_AVAILABLE if has_handover else State.AVAILABLE
