"""Who runs a source: never two at once, whatever happens to owners."""

from hypothesis import given
from hypothesis import strategies as st

from services.control.database import StoredOwner
from services.control.source_book import GRACE_MS, Plan, SourceBook

LEASE_MS = 6_000
A, B, C = ("poller-0", "i1"), ("poller-1", "i1"), ("poller-2", "i1")


def step(
    book: SourceBook,
    now_ms: float,
    sources: list[str],
    pollers: dict[tuple[str, str], bool],
    ended: tuple[tuple[str, str], ...] = (),
) -> Plan:
    plan = book.plan(sources, pollers, ended, now_ms)
    book.take(plan, now_ms)
    return plan


def test_a_lease_is_renewed_at_a_third_and_not_before() -> None:
    book = SourceBook((), 0, LEASE_MS)
    assert [g.epoch for g in step(book, 0, ["s"], {A: True}).grants] == [1]
    assert not step(book, 1_999, ["s"], {A: True}).grants
    again = step(book, 2_000, ["s"], {A: True})
    assert [(g.owner, g.epoch) for g in again.grants] == [(A, 1)] and not again.owners


def test_a_lost_owner_keeps_its_source_until_its_lease_has_surely_ended() -> None:
    """Then the next one gets a higher epoch, and the old one is told if it can be."""
    book = SourceBook((), 0, LEASE_MS)
    step(book, 0, ["s"], {A: True, B: True})
    end_ms = LEASE_MS + GRACE_MS
    assert step(book, end_ms - 1, ["s"], {B: True}) == Plan([], [], [], [])
    plan = step(book, end_ms, ["s"], {B: True})
    assert plan.owners == [StoredOwner("s", 2, *B)] and [g.owner for g in plan.revocations] == [A]


def test_a_dead_owner_is_replaced_at_once() -> None:
    book = SourceBook((), 0, LEASE_MS)
    step(book, 0, ["s"], {A: True})
    plan = step(book, 1, ["s"], {B: True}, ended=(A,))
    assert plan.owners == [StoredOwner("s", 2, *B)]


def test_a_leaving_owner_is_told_to_stop_and_replaced_when_its_lease_is_over() -> None:
    book = SourceBook((), 0, LEASE_MS)
    step(book, 0, ["s"], {A: True})
    plan = step(book, 100, ["s"], {A: False, B: True})
    assert [(g.owner, g.epoch) for g in plan.revocations] == [(A, 1)] and not plan.grants
    assert not step(book, 5_000, ["s"], {A: False, B: True}).grants
    assert step(book, 7_000, ["s"], {A: False, B: True}).grants[0].owner == B


def test_progress_is_its_owners_and_goes_with_the_source() -> None:
    """Stored once; an owner before says nothing any more; what could not be stored comes again."""
    book = SourceBook((), 0, LEASE_MS, {"gone": 7})
    step(book, 0, ["s"], {A: True})
    book.note_progress(A, "s", 1, 60)
    assert book.progress_to_store() == {"s": 60} and not book.progress_to_store()
    book.store_again(["s"])
    assert book.progress_to_store() == {"s": 60}
    step(book, 1, ["s"], {B: True}, ended=(A,))
    book.note_progress(A, "s", 1, 120)
    book.note_progress(B, "s", 1, 120)
    assert book.progress["s"] == 60 and not book.progress_to_store()
    step(book, 2, [], {B: True})
    assert "s" not in book.progress


def test_after_a_restart_the_stored_owner_goes_on_and_others_wait() -> None:
    """Nobody knows when control sent its last lease before."""
    book = SourceBook([StoredOwner("s", 4, *A)], 10_000, LEASE_MS)
    assert step(book, 16_999, ["s"], {B: True}) == Plan([], [], [], [])
    assert [(g.owner, g.epoch) for g in step(book, 16_999, ["s"], {A: True, B: True}).grants] == [(A, 4)]


def test_sources_move_to_a_poller_that_has_fewer() -> None:
    """One by one, no more than needed, and none has two owners meanwhile."""
    sources = [f"s{i}" for i in range(4)]
    book = SourceBook((), 0, LEASE_MS)
    step(book, 0, sources, {A: True})
    moved = [
        g.source_id for t in range(100, 1_000, 100) for g in step(book, t, sources, {A: True, B: True}).revocations
    ]
    assert len(moved) == len(set(moved)) == 2
    step(book, 2_500, sources, {A: True, B: True})
    step(book, 8_100, sources, {A: True, B: True})
    owners = [entry.owner for entry in book.entries.values()]
    assert owners.count(A) == owners.count(B) == 2


def test_a_deleted_source_is_forgotten_and_its_owner_told() -> None:
    book = SourceBook((), 0, LEASE_MS)
    step(book, 0, ["s"], {A: True})
    plan = step(book, 1, [], {A: True})
    assert plan.dropped_ids == ["s"] and plan.revocations[0].owner == A and not book.entries


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([50, 700, 2_500, 8_000]),
            st.fixed_dictionaries({}, optional={A: st.booleans(), B: st.booleans(), C: st.booleans()}),
            st.sampled_from([["s"], ["s", "t"], ["s", "t", "u", "v"]]),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_no_source_ever_has_two_owners_and_epochs_only_grow(
    steps: list[tuple[int, dict[tuple[str, str], bool], list[str], bool]],
) -> None:
    """By the owners' own count of their leases, over restarts of control too."""
    now_ms, book = 0, SourceBook((), 0, LEASE_MS)
    stored: dict[str, StoredOwner] = {}
    leases: dict[tuple[str, tuple[str, str]], float] = {}
    epochs: dict[str, int] = {}
    for wait_ms, pollers, sources, restarts in steps:
        now_ms += wait_ms
        if restarts:
            book = SourceBook(stored.values(), now_ms, LEASE_MS)
        plan = step(book, now_ms, sources, pollers)
        for source_id in plan.dropped_ids:
            del stored[source_id]
            epochs.pop(source_id)
            for key in [key for key in leases if key[0] == source_id]:
                del leases[key]
        stored.update({owner.source_id: owner for owner in plan.owners})
        for grant in plan.grants:
            assert grant.epoch >= epochs.get(grant.source_id, 0)
            epochs[grant.source_id] = grant.epoch
            leases[grant.source_id, grant.owner] = now_ms + LEASE_MS
            others = [o for (s, o), end in leases.items() if s == grant.source_id and o != grant.owner and end > now_ms]
            assert not others
            assert (stored[grant.source_id].epoch, stored[grant.source_id].node_id) == (grant.epoch, grant.owner[0])
