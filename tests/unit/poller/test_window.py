"""Credits: enough that no host idles, never more than the bounds."""

from hypothesis import given
from hypothesis import strategies as st

from services.poller.window import MAX_CREDIT_EVENTS, MIN_WINDOW, Account, Window

MIB = 1 << 20


def test_a_fresh_node_gets_what_hosts_can_take_and_a_batch() -> None:
    """So that a freed slot finds its next event here."""
    window = Window(2_000, 64 * MIB, 128)
    window.host_room = 64
    assert window.credit(Account()) == (192, 64 * MIB)


def test_without_hosts_a_few_leases_still_come() -> None:
    """Events past their age and results for destinations need none."""
    window = Window(2_000, 64 * MIB, 1)
    assert window.credit(Account())[0] == MIN_WINDOW


def test_a_backlog_here_stops_the_credit() -> None:
    """The backlog is the shards'."""
    window = Window(2_000, 64 * MIB, 128)
    window.host_room, window.pending = 64, 128
    assert window.credit(Account()) == (0, 0)
    window.pending = 127
    assert window.credit(Account())[0] > 0


def test_a_closed_window_gives_nothing() -> None:
    """While draining."""
    window = Window(2_000, 64 * MIB, 128)
    window.is_closed = True
    assert window.credit(Account()) == (0, 0)


def test_leases_being_settled_free_the_window_but_not_the_bound() -> None:
    """What is settled needs no host; what is held needs memory."""
    window = Window(300, 64 * MIB, 128)
    window.host_room = 64
    assert window.credit(Account(held=192, active=0))[0] == 108
    assert window.credit(Account(held=300, active=0))[0] == 0


def test_small_openings_wait_until_they_are_worth_a_message() -> None:
    """Unless the node has nothing left to deliver."""
    window = Window(2_000, 64 * MIB, 128)
    window.host_room = 64
    assert window.credit(Account(granted=190, granted_bytes=MIB)) == (0, 0)
    assert window.credit(Account(held=190, active=190))[0] == 2


def test_bytes_of_a_time_with_fewer_nodes_do_not_stop_the_leases() -> None:
    """A node that joins halves the bound of the first: it has bytes beyond that, and no events to use them for."""
    window = Window(2_000, 64 * MIB, 128)
    first = Account(*window.credit(Account()))
    window.nodes = 2
    first.granted = 0
    assert first.granted_bytes > 32 * MIB
    assert window.credit(first) == (128, 1)
    # But what is held is a bound.
    assert window.credit(Account(granted_bytes=MIB, held=1, held_bytes=32 * MIB)) == (0, 0)


def test_large_events_use_up_the_bytes_and_one_lease_still_comes() -> None:
    """Granted leases without bytes are delivered by no node."""
    window = Window(2_000, 64 * MIB, 128)
    window.host_room = 64
    events, size = window.credit(Account(granted=192, granted_bytes=0, held=10, held_bytes=32 * MIB))
    assert (events, size) == (1, 32 * MIB)


@given(
    max_leases=st.integers(1, 10_000),
    nodes=st.integers(1, 8),
    room=st.integers(0, 5_000),
    steps=st.lists(st.integers(0, 500), max_size=40),
)
def test_the_bounds_hold_over_all_nodes(max_leases: int, nodes: int, room: int, steps: list[int]) -> None:
    """Whatever arrives and ends: grants and leases of all nodes stay within the bound."""
    window = Window(max_leases, 64 * MIB, 128)
    window.nodes, window.host_room = nodes, room
    accounts = [Account() for _ in range(nodes)]
    for index, step in enumerate(steps):
        account = accounts[index % nodes]
        events, size = window.credit(account)
        assert events <= MAX_CREDIT_EVENTS
        account.granted += events
        account.granted_bytes += size
        arrived = min(step, account.granted)
        account.granted -= arrived
        account.held += arrived
        account.active += arrived
        assert sum(a.granted + a.held for a in accounts) <= max(max_leases, nodes)
        ended = min(step // 2, account.held)
        account.held -= ended
        account.active = min(account.active, account.held)
