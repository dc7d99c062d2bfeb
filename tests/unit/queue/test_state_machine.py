"""The table of transitions by itself, and the document that is printed from it."""

import itertools

import pytest

from services.queue.domain import Action, Entry, Settle
from services.queue.leases import Leases
from services.queue.sessions import PollerSession
from services.queue.states import Place, State, stored_state
from services.queue.transitions import (
    TRANSITIONS,
    Guard,
    ImpossibleTransition,
    Input,
    settled,
    transition,
)
from services.shared.clock import FakeClock
from tools import state_machine

ANSWERS = (False, True)


def test_the_document_is_what_the_machine_prints() -> None:
    document = state_machine.DOCUMENT.read_text()
    assert document == state_machine.replaced(document), "run python -m tools.state_machine --write"


def test_a_document_without_the_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="lacks the line"):
        state_machine.replaced("# What can happen to an event\n")


def test_only_the_rows_of_the_table_are_possible() -> None:
    rows = {(row.before, row.given) for row in TRANSITIONS}
    for state, given, holds in itertools.product(State, Input, ANSWERS):
        if (state, given) in rows:
            assert transition(state, given, holds).before is state
        else:
            with pytest.raises(ImpossibleTransition, match=f"{state.name} cannot be given {given.name}"):
                transition(state, given, holds)


def test_a_guard_has_a_row_for_yes_and_one_for_no() -> None:
    for (before, given), rows in itertools.groupby(TRANSITIONS, lambda row: (row.before, row.given)):
        guards = [row.guard for row in rows]
        if guards != [Guard.ALWAYS]:
            assert sorted(guard.holds for guard in guards) == [False, True], (before, given)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", [state for state in State if not state.is_leased])
def test_what_is_not_leased_cannot_be_settled(state: State, action: Action) -> None:
    with pytest.raises(ImpossibleTransition):
        settled(state, Settle(0, 1, 1, action))


def test_the_guards_of_a_settlement_are_its_condition_and_its_delay() -> None:
    after = {
        (row.condition, row.delay_ms): settled(State.LEASED, row).after
        for row in (
            Settle(0, 1, 1, Action.ACK, condition=1),
            Settle(0, 1, 1, Action.ACK, condition=2, delay_ms=1),
            Settle(0, 1, 1, Action.RELEASE, condition=1, delay_ms=9),
            Settle(0, 1, 1, Action.RELEASE, condition=3),
        )
    }
    assert after == {
        (1, 0): State.SUCCEEDED,
        (2, 1): State.FAILED,
        (1, 9): State.DELAYED,
        (3, 0): State.AVAILABLE,
    }


def test_an_event_is_never_leased_twice() -> None:
    leases = Leases(FakeClock(), visibility_timeout_ms=1_000, boot_number=1)
    entry = Entry(0, b"i" * 16, "t", "f", "$LATEST", b"", 0, 1, "", "", b"")
    entry.state = State.LEASED
    with pytest.raises(ImpossibleTransition, match="LEASED cannot be given LEASE"):
        leases.grant(entry, PollerSession("poller-0", "a"))
    assert not leases


def test_a_crash_leaves_what_the_row_says() -> None:
    for state in State:
        if state.is_live:
            after = transition(state, Input.CRASH).after
            assert after is stored_state(state.place, has_handover=state.has_handover)


def test_the_rows_change_the_numbers_by_what_their_states_count() -> None:
    for row in TRANSITIONS:
        assert row.events + row.delayed == row.live
        assert row.moves_row == (row.before.place is not row.after.place)
        assert row.handovers == row.after.has_handover - row.before.has_handover
    buried = transition(State.HANDOVER, Input.DEAD_LETTER)
    assert (buried.events, buried.delayed, buried.dead_letters, buried.handovers, buried.live) == (-1, 0, 1, -1, -1)
    due = transition(State.DELAYED, Input.DUE)
    assert (due.events, due.delayed, due.live, due.place) == (1, -1, 0, Place.EVENTS)


def test_every_state_is_reached_and_left() -> None:
    for state in State:
        assert any(row.after is state and row.before is not state for row in TRANSITIONS), f"nothing leads to {state}"
        assert any(row.before is state and row.after is not state for row in TRANSITIONS), f"nothing leaves {state}"
