"""The shard's state machine: one table of all that can happen to an event. Pure.

Nothing else in the shard knows where an event goes: settlements, time, deliveries and dead letters look their row up
here, and what they write and count follows from the states it names. What is not in the table cannot be done:
`ImpossibleTransition`. docs/state_machine.md is printed from it (`python -m tools.state_machine`).
"""

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evenflow.common.v1 import event_pb2

from services.queue.states import Place, State

if TYPE_CHECKING:
    from services.queue.domain import Settle


class Input(enum.IntEnum):
    """What can happen to an event. Settlements with the current receipt bring the first five, and CONFIRM."""

    ACK = 1
    RELEASE = 2
    HANDOVER = 3
    DEAD_LETTER = 4
    EXTEND = 5
    # A frontend stores it, or sends it again.
    ENQUEUE = 6
    # A poller gets it.
    LEASE = 7
    # The visibility timeout of its lease is over.
    LEASE_EXPIRED = 8
    # Its poller was started anew.
    SESSION_GONE = 9
    # Its lease never left the node.
    UNDELIVERED = 10
    # Its lease ended, and the volume is too full to store that.
    UNCOUNTED = 11
    # The time it was delayed to has come.
    DUE = 12
    # It is past its age.
    AGE_OVER = 13
    REDRIVE = 14
    PURGE = 15
    # It was kept as long as it is to be.
    FORGET = 16
    # The process ended, in whatever way, and the file is opened anew.
    CRASH = 17
    # One of the two that its handover goes to has it.
    CONFIRM = 18


class Guard(enum.Enum):
    """The condition of a row. Inputs with a guard have two rows: one for its no, one for its yes."""

    ALWAYS = ("", False)
    FAILED = ("condition is not SUCCESS", False)
    SUCCEEDED = ("condition is SUCCESS", True)
    NOW = ("`delay_ms` = 0", False)
    LATER = ("`delay_ms` > 0", True)
    DELIVERIES_LEFT = ("`deliveries` then <= `queue.max_deliveries`", False)
    DELIVERIES_EXHAUSTED = ("`deliveries` then > `queue.max_deliveries`", True)

    @property
    def text(self) -> str:
        """As the documentation says it."""
        return self.value[0]

    @property
    def holds(self) -> bool:
        """The answer that this row is for."""
        return self.value[1]


COUNTS_DELIVERY = frozenset((Input.LEASE_EXPIRED, Input.SESSION_GONE))


class ImpossibleTransition(Exception):
    """The table has no such row: a fault of the program, found before anything was written."""

    def __init__(self, state: State, given: Input) -> None:
        super().__init__(f"an event that is {state.name} cannot be given {given.name}: the shard must be opened anew")
        self.state = state
        self.given = given


@dataclass(frozen=True, slots=True, eq=False)
class Transition:
    """A row of the table, and what follows from its states: by how much it changes the shard's numbers."""

    before: State
    given: Input
    guard: Guard
    after: State
    # Where the row is afterwards; it is deleted from where it was if that is another place.
    place: Place
    moves_row: bool
    # 1, 0 or -1.
    events: int
    delayed: int
    dead_letters: int
    handovers: int
    live: int


def _row(before: State, given: Input, guard: Guard, after: State) -> Transition:
    def change(place: Place) -> int:
        return (after.place is place) - (before.place is place)

    return Transition(
        before,
        given,
        guard,
        after,
        place=after.place,
        moves_row=after.place is not before.place,
        events=change(Place.EVENTS),
        delayed=change(Place.DELAYED),
        dead_letters=change(Place.DEAD_LETTERS),
        handovers=after.has_handover - before.has_handover,
        live=after.is_live - before.is_live,
    )


def _lease_rows(held: State, available: State, delayed: State) -> list[tuple[State, Input, Guard, State]]:
    """What can happen to a leased event, with or without a handover."""
    return [
        (held, Input.ACK, Guard.SUCCEEDED, State.SUCCEEDED),
        (held, Input.ACK, Guard.FAILED, State.FAILED),
        (held, Input.RELEASE, Guard.NOW, available),
        (held, Input.RELEASE, Guard.LATER, delayed),
        # A handover that is stored already was sent again after a broken stream: nothing changes.
        (held, Input.HANDOVER, Guard.ALWAYS, State.HANDOVER),
        (held, Input.DEAD_LETTER, Guard.ALWAYS, State.DEAD),
        (held, Input.EXTEND, Guard.ALWAYS, held),
        # Stored in the handover, where there is one.
        (held, Input.CONFIRM, Guard.ALWAYS, held),
        (held, Input.LEASE_EXPIRED, Guard.DELIVERIES_LEFT, available),
        (held, Input.LEASE_EXPIRED, Guard.DELIVERIES_EXHAUSTED, State.DEAD),
        (held, Input.SESSION_GONE, Guard.DELIVERIES_LEFT, available),
        (held, Input.SESSION_GONE, Guard.DELIVERIES_EXHAUSTED, State.DEAD),
        (held, Input.UNDELIVERED, Guard.ALWAYS, available),
        (held, Input.UNCOUNTED, Guard.ALWAYS, available),
    ]


_STORED = [state for state in State if state is not State.GONE]
# What memory knew alone is gone after a crash: leases, and what was set aside.
_AFTER_CRASH = {
    State.LEASED: State.AVAILABLE,
    State.EXPIRED: State.AVAILABLE,
    State.HANDOVER: State.HANDOVER_AVAILABLE,
    State.HANDOVER_EXPIRED: State.HANDOVER_AVAILABLE,
}
TRANSITIONS: tuple[Transition, ...] = tuple(
    _row(*row)
    for row in (
        (State.GONE, Input.ENQUEUE, Guard.ALWAYS, State.AVAILABLE),
        (State.AVAILABLE, Input.LEASE, Guard.ALWAYS, State.LEASED),
        (State.AVAILABLE, Input.AGE_OVER, Guard.ALWAYS, State.EXPIRED),
        (State.EXPIRED, Input.LEASE, Guard.ALWAYS, State.LEASED),
        (State.DELAYED, Input.DUE, Guard.ALWAYS, State.AVAILABLE),
        *_lease_rows(State.LEASED, State.AVAILABLE, State.DELAYED),
        (State.HANDOVER_AVAILABLE, Input.LEASE, Guard.ALWAYS, State.HANDOVER),
        (State.HANDOVER_AVAILABLE, Input.AGE_OVER, Guard.ALWAYS, State.HANDOVER_EXPIRED),
        (State.HANDOVER_EXPIRED, Input.LEASE, Guard.ALWAYS, State.HANDOVER),
        (State.HANDOVER_DELAYED, Input.DUE, Guard.ALWAYS, State.HANDOVER_AVAILABLE),
        *_lease_rows(State.HANDOVER, State.HANDOVER_AVAILABLE, State.HANDOVER_DELAYED),
        (State.SUCCEEDED, Input.FORGET, Guard.ALWAYS, State.GONE),
        (State.FAILED, Input.FORGET, Guard.ALWAYS, State.GONE),
        (State.DEAD, Input.FORGET, Guard.ALWAYS, State.GONE),
        (State.DEAD, Input.PURGE, Guard.ALWAYS, State.GONE),
        (State.DEAD, Input.REDRIVE, Guard.ALWAYS, State.AVAILABLE),
        *((state, Input.CRASH, Guard.ALWAYS, _AFTER_CRASH.get(state, state)) for state in _STORED),
        # A repeat: answered as a duplicate, or refused for its other body.
        *((state, Input.ENQUEUE, Guard.ALWAYS, state) for state in _STORED),
    )
)


_Rows = tuple[Transition | None, ...]


def _indexed() -> tuple[tuple[_Rows, ...], tuple[_Rows, ...]]:
    """By what the guard answers, then by state, then by input. ValueError: two rows for the same."""
    cells: list[list[list[Transition | None]]] = [[[None] * (len(Input) + 1) for _ in State] for _ in (False, True)]
    for row in TRANSITIONS:
        for holds in (False, True) if row.guard is Guard.ALWAYS else (row.guard.holds,):
            if cells[holds][row.before][row.given] is not None:
                raise ValueError(f"two rows for {row.before.name} and {row.given.name}")
            cells[holds][row.before][row.given] = row
    no, yes = (tuple(map(tuple, answered)) for answered in cells)
    return no, yes


_INDEX = _indexed()
_ACK, _RELEASE = int(Input.ACK), int(Input.RELEASE)
_SUCCESS = int(event_pb2.CONDITION_SUCCESS)


def transition(state: State, given: Input, holds: bool = False) -> Transition:
    """The row for this input; `holds`: what its guard answers. ImpossibleTransition."""
    row = _INDEX[holds][state][given]
    if row is None:
        raise ImpossibleTransition(state, given)
    return row


def by_state(given: Input) -> tuple[Transition | None, ...]:
    """The rows of an input without a guard, by state: to look them up without a call; None is impossible."""
    return tuple(rows[given] for rows in _INDEX[False])


def settled(state: State, settle: "Settle") -> Transition:
    """The row for a settlement whose receipt is the current one. ImpossibleTransition."""
    action = settle.action
    holds = settle.condition == _SUCCESS if action == _ACK else action == _RELEASE and settle.delay_ms > 0
    row = _INDEX[holds][state][action]
    if row is None:
        raise ImpossibleTransition(state, Input(action))
    return row
