"""How sandboxes that are kept ready are spread over hosts, and how far they are said to be."""

from hypothesis import given
from hypothesis import strategies as st

from services.policy.provisioned import (
    FAILED,
    IN_PROGRESS,
    READY,
    Standing,
    Status,
    plan_provisioned,
    provisioned_key,
    statuses_of,
)
from services.policy.sharing import Host, Share, limit_key, plan_targets

KEY = provisioned_key("t", "f", "1")
HOSTS = {"a": Host(8), "b": Host(8)}


def ready(count: int) -> Share:
    return Share(count, count, True)


def test_first_they_are_spread_by_room() -> None:
    """What another version has on a host is no room."""
    assert plan_provisioned({KEY: 6}, HOSTS, (), {}) == {(KEY, "a"): 3, (KEY, "b"): 3}
    other = {("provisioned/t/g/1", "a"): ready(6)}
    limits = {KEY: 5, "provisioned/t/g/1": 6}
    assert plan_provisioned(limits, HOSTS, (), other) == {(KEY, "a"): 1, (KEY, "b"): 4}


def test_no_host_gets_more_than_it_can_hold() -> None:
    """The rest is not given out."""
    assert plan_provisioned({KEY: 50}, HOSTS, (), {}) == {(KEY, "a"): 8, (KEY, "b"): 8}
    assert plan_provisioned({KEY: 5}, {}, (), {}) == {}


def test_what_is_ready_stays_when_a_host_comes() -> None:
    """Nothing is ended for the sake of balance; what is missing goes to the new one."""
    shares = {(KEY, "a"): ready(5)}
    assert plan_provisioned({KEY: 5}, HOSTS, (), shares) == {}
    assert plan_provisioned({KEY: 9}, HOSTS, (), shares) == {(KEY, "a"): 6, (KEY, "b"): 3}


def test_a_raise_does_not_wait_until_all_are_ready() -> None:
    """But it waits for a host that still has more than it should."""
    starting = {(KEY, "a"): Share(3, 0, False), (KEY, "b"): Share(3, 3, True)}
    assert plan_provisioned({KEY: 8}, HOSTS, (), starting) == {(KEY, "a"): 4, (KEY, "b"): 4}
    ending = {(KEY, "a"): Share(1, 3, False), (KEY, "b"): ready(3)}
    assert plan_provisioned({KEY: 8}, HOSTS, (), ending) == {(KEY, "b"): 5}


def test_a_leaving_host_gives_up_what_it_has_and_others_get_it_then() -> None:
    """First it is told 0; as sandboxes end there, others start here."""
    hosts = {"a": Host(8, is_leaving=True), "b": Host(8)}
    assert plan_provisioned({KEY: 4}, hosts, (), {(KEY, "a"): ready(4)}) == {(KEY, "a"): 0}
    assert plan_provisioned({KEY: 4}, hosts, (), {(KEY, "a"): Share(0, 1, False)}) == {(KEY, "b"): 3}


def test_a_host_that_is_out_of_touch_keeps_its_share_until_it_is_lost() -> None:
    """A broken stream moves nothing; a lost host's share is given to others, and taken back when it is there again."""
    hosts = {"b": Host(8)}
    shares = {(KEY, "a"): ready(4), (KEY, "b"): ready(1)}
    assert plan_provisioned({KEY: 5}, hosts, (), shares) == {}
    assert plan_provisioned({KEY: 5}, hosts, {"a"}, shares) == {(KEY, "b"): 5}
    back = {(KEY, "a"): ready(4), (KEY, "b"): ready(5)}
    assert plan_provisioned({KEY: 5}, HOSTS, (), back) == {(KEY, "a"): 2, (KEY, "b"): 3}


def test_what_nobody_asks_for_is_taken_back() -> None:
    """A lower number by what each has, a lifted one altogether."""
    shares = {(KEY, "a"): ready(4), (KEY, "b"): ready(2)}
    assert plan_provisioned({KEY: 3}, HOSTS, (), shares) == {(KEY, "a"): 2, (KEY, "b"): 1}
    assert plan_provisioned({}, HOSTS, (), shares) == {(KEY, "a"): 0, (KEY, "b"): 0}


SHARES = st.dictionaries(
    st.tuples(st.sampled_from((KEY, "provisioned/t/g/2")), st.sampled_from("abcd")),
    st.builds(lambda target, held: Share(target, held, target == held), st.integers(0, 9), st.integers(0, 9)),
)


@given(
    shares=SHARES,
    limits=st.dictionaries(st.sampled_from((KEY, "provisioned/t/g/2")), st.integers(0, 30)),
    hosts=st.dictionaries(st.sampled_from("abc"), st.builds(Host, st.integers(0, 12), st.booleans())),
    lost=st.sets(st.sampled_from("d")),
)
def test_no_raise_makes_the_shares_exceed_their_limit(
    shares: dict[tuple[str, str], Share], limits: dict[str, int], hosts: dict[str, Host], lost: set[str]
) -> None:
    """Nor gives a host more sandboxes than it can hold; and a second look at what was told changes nothing more."""
    changes = plan_provisioned(limits, hosts, lost, shares)
    after = dict(shares)
    for (key, host_id), target in changes.items():
        before = shares.get((key, host_id), Share(0, 0, True))
        after[key, host_id] = Share(target, max(before.held, before.target), False)
        if target > before.target:
            taken = sum(max(s.bound, changes.get(k, 0)) for k, s in shares.items() if k[0] == key and k[1] not in lost)
            fresh = sum(t for k, t in changes.items() if k[0] == key and k not in shares)
            assert taken + fresh <= limits[key]
            held = {k: max(s.bound, changes.get(k, 0)) for k, s in shares.items() if k[1] == host_id}
            held |= {k: t for k, t in changes.items() if k[1] == host_id and k not in shares}
            assert sum(held.values()) <= hosts[host_id].slots
    settled = {key: Share(share.target, share.target, True) for key, share in after.items()}
    for _ in range(8):
        again = plan_provisioned(limits, hosts, lost, settled)
        if not again:
            break
        settled |= {key: ready(target) for key, target in again.items()}
    assert not plan_provisioned(limits, hosts, lost, settled)


def test_statuses_say_how_far_each_qualifier_is() -> None:
    """READY when all are; FAILED with the host's own words, or when no host could ever hold so many."""
    hosts = {"a": Host(8)}
    assert statuses_of({"live": 3}, Standing(3, 3, "an old trouble"), hosts) == {"live": Status(3, 3, READY)}
    assert statuses_of({"live": 3}, Standing(3, 1), hosts) == {"live": Status(3, 1, IN_PROGRESS)}
    failed = statuses_of({"live": 3}, Standing(3, 0, "FUNCTION_ERROR_INIT_FAILURE"), hosts)
    assert failed == {"live": Status(3, 0, FAILED, "FUNCTION_ERROR_INIT_FAILURE")}
    crowded = statuses_of({"live": 9}, Standing(8, 8), hosts)["live"]
    assert crowded.status == FAILED and "room for 8 sandboxes, 9 are asked for" in crowded.reason
    assert statuses_of({"live": 9}, Standing(), {})["live"].status == IN_PROGRESS
    both = statuses_of({"a": 2, "b": 3}, Standing(5, 4), hosts)
    assert both == {"a": Status(2, 2, READY), "b": Status(3, 2, IN_PROGRESS)}


def test_what_is_ready_lies_where_the_reservation_is() -> None:
    """As many reserved as kept ready: each host has of one what it has of the other, so that all of it can run."""
    hosts = {f"runtime-{n}": Host(64) for n in range(3)}
    for amount in range(1, 12):
        for name in ("f", "g", "h"):
            reserved, kept = limit_key("t", name), provisioned_key("t", name, "1")
            shares = plan_targets({reserved: amount}, hosts, {}, 1_000)
            ready_at = plan_provisioned({kept: amount}, hosts, (), {})
            assert {host: count for (_, host), count in shares.items()} == {
                host: count for (_, host), count in ready_at.items()
            }
