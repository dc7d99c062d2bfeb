"""Host placement: affinity first, then room."""

from services.policy.placement import choose_host, choose_sharing_host, rank_hosts

HOSTS = [f"runtime-{n}" for n in range(5)]


def test_the_order_is_the_functions_own_and_stays() -> None:
    """The same for the same function, different over functions, whatever order the hosts come in."""
    assert rank_hosts("t", "f", HOSTS) == rank_hosts("t", "f", reversed(HOSTS))
    first = {rank_hosts("t", f"f{n}", HOSTS)[0] for n in range(100)}
    assert first == set(HOSTS)


def test_a_host_that_goes_moves_only_its_own_functions() -> None:
    """Rendezvous hashing."""
    left = [host for host in HOSTS if host != "runtime-2"]
    for n in range(200):
        before, after = rank_hosts("t", f"f{n}", HOSTS), rank_hosts("t", f"f{n}", left)
        assert after == tuple(host for host in before if host != "runtime-2")


IDLE = dict.fromkeys("abc", 0.0)


def test_the_preferred_host_wins_while_it_has_room_and_a_slot() -> None:
    """One credit is enough, and one slot."""
    ranked = ("b", "a", "c")
    assert choose_host(ranked, {"a": 50, "b": 1, "c": 9}, IDLE.__getitem__) == "b"
    assert choose_host(ranked, {"a": 50, "b": 1, "c": 9}, {"a": 0.0, "b": 0.99, "c": 0.0}.__getitem__) == "b"


def test_nothing_waits_at_a_host_while_the_slots_of_another_one_are_free() -> None:
    """A host takes many more than it runs at once: its credits say nothing of the wait."""
    ranked = ("b", "a", "c")
    credits = {"a": 9, "b": 200, "c": 9}
    assert choose_host(ranked, credits, {"a": 0.9, "b": 1.0, "c": 0.5}.__getitem__) == "c"
    in_flight = dict.fromkeys(ranked, 0)
    for _ in range(24):
        chosen = choose_host(ranked, credits, lambda host_id: in_flight[host_id] / 8)
        assert chosen is not None
        in_flight[chosen] += 1
    assert in_flight == dict.fromkeys(ranked, 8)


def test_overflow_goes_where_the_crowd_is_smallest_and_equals_go_by_rank() -> None:
    """So that it stays on few hosts."""
    ranked = ("b", "a", "c")
    assert choose_host(ranked, {"a": 3, "b": 0, "c": 9}, {"a": 3.0, "b": 0.0, "c": 2.0}.__getitem__) == "c"
    assert choose_host(ranked, {"a": 3, "b": 0, "c": 3}, IDLE.__getitem__) == "a"


def test_no_room_is_no_host() -> None:
    """Neither without hosts, nor without credits."""
    assert choose_host((), {}, IDLE.__getitem__) is None
    assert choose_host(("a",), {"a": 0}, IDLE.__getitem__) is None
    assert choose_host(("a",), {}, IDLE.__getitem__) is None


ROOM = {"a": 9, "b": 9, "c": 9}
SLOTS = {"a": 64, "b": 64, "c": 32}


def test_a_reservation_is_spread_by_slots_and_one_at_a_time_stays() -> None:
    """Each host has its part of it: none may lie idle while another has a queue."""
    ranked = ("b", "a", "c")
    assert choose_sharing_host(ranked, ROOM, {}, SLOTS, ()) == "b"
    in_flight: dict[str, int] = {}
    for _ in range(50):
        chosen = choose_sharing_host(ranked, ROOM, in_flight, SLOTS, ())
        assert chosen is not None
        in_flight[chosen] = in_flight.get(chosen, 0) + 1
    assert in_flight == {"a": 20, "b": 20, "c": 10}


def test_who_had_no_share_is_asked_last() -> None:
    """And who has no credits never."""
    ranked = ("b", "a", "c")
    assert choose_sharing_host(ranked, ROOM, {"a": 5}, SLOTS, {"b", "c"}) == "a"
    assert choose_sharing_host(ranked, ROOM, {"a": 5}, SLOTS, {"a", "b", "c"}) == "b"
    assert choose_sharing_host(ranked, {"c": 1}, {"c": 30}, SLOTS, {"c"}) == "c"
    assert choose_sharing_host(ranked, {"c": 0}, {}, SLOTS, ()) is None
