"""Which isolation a machine's abilities give, and why a wanted one is refused."""

import dataclasses

import pytest

from services.runtime.sandbox.namespaces import ALL, IPC, MOUNT, NETWORK, PID
from services.runtime.tiers import AUTO, HOST_NETWORK, ISOLATED_NETWORK, TIERS, Abilities, choose

BARE_HOST = Abilities(
    namespaces=ALL,
    by_user_namespace=False,
    own_uid=True,
    reads_python=True,
    landlock=7,
    has_seccomp=True,
    cgroups_missing="",
)
LAPTOP = dataclasses.replace(
    BARE_HOST, by_user_namespace=True, own_uid=False, cgroups_missing="not delegated to this user"
)
ROOT_CONTAINER = dataclasses.replace(BARE_HOST, namespaces=(), cgroups_missing="read-only")
PLAIN_CONTAINER = dataclasses.replace(LAPTOP, namespaces=(), by_user_namespace=False)


@pytest.mark.parametrize(
    ("abilities", "tier"),
    [
        (BARE_HOST, "c"),
        (dataclasses.replace(BARE_HOST, cgroups_missing="read-only"), "a"),
        (dataclasses.replace(BARE_HOST, namespaces=(MOUNT, IPC)), "b"),
        (ROOT_CONTAINER, "a"),
        (dataclasses.replace(ROOT_CONTAINER, reads_python=False), "0"),
        (dataclasses.replace(BARE_HOST, reads_python=False), "c"),
        (LAPTOP, "0"),
        (PLAIN_CONTAINER, "0"),
    ],
)
def test_auto_takes_the_strongest_tier_that_is_whole(abilities: Abilities, tier: str) -> None:
    assert choose(abilities, AUTO, "", HOST_NETWORK).tier == tier


def test_auto_uses_what_a_stronger_tier_would_bring() -> None:
    """Namespaces without cgroups are no tier c, but better than none."""
    found = choose(dataclasses.replace(BARE_HOST, cgroups_missing="read-only"), AUTO, "", HOST_NETWORK)
    assert found.tier == "a" and PID in found.namespaces and not found.has_cgroup
    found = choose(LAPTOP, AUTO, "", HOST_NETWORK)
    assert found.tier == "0" and MOUNT in found.namespaces and found.by_user_namespace and not found.has_uid


def test_a_chosen_tier_is_exactly_that() -> None:
    """Weaker tiers can be had on a stronger machine, with nothing more than they promise."""
    weakest = choose(BARE_HOST, "0", "", HOST_NETWORK)
    assert not weakest.namespaces and not weakest.has_uid and not weakest.has_cgroup
    assert choose(BARE_HOST, "a", "", HOST_NETWORK).has_uid and not choose(BARE_HOST, "a", "", HOST_NETWORK).has_cgroup
    with_groups = choose(BARE_HOST, "b", "", HOST_NETWORK)
    assert with_groups.has_cgroup and not with_groups.namespaces


@pytest.mark.parametrize(
    ("abilities", "wanted", "words"),
    [
        (LAPTOP, "a", "run it as root"),
        (ROOT_CONTAINER, "b", "no cgroups: read-only"),
        (dataclasses.replace(ROOT_CONTAINER, reads_python=False), "a", "cannot read this Python"),
        (dataclasses.replace(BARE_HOST, namespaces=(MOUNT, IPC)), "c", "no uts, pid namespace"),
    ],
)
def test_a_tier_that_is_not_there_is_refused_with_what_is_missing(
    abilities: Abilities, wanted: str, words: str
) -> None:
    with pytest.raises(ValueError, match=f"sandbox.isolation is {wanted}.*{words}"):
        choose(abilities, wanted, "", HOST_NETWORK)
    with pytest.raises(ValueError, match=f"sandbox.require is {wanted}.*{words}"):
        choose(abilities, AUTO, wanted, HOST_NETWORK)


def test_a_required_tier_is_a_floor() -> None:
    for required in TIERS:
        assert choose(BARE_HOST, AUTO, required, HOST_NETWORK).tier == "c"
    with pytest.raises(ValueError, match=r"sandbox\.require is b, but sandboxes would run in tier 0"):
        choose(BARE_HOST, "0", "b", HOST_NETWORK)


def test_an_isolated_network_is_a_namespace_or_a_filter_or_nothing() -> None:
    assert NETWORK in choose(BARE_HOST, AUTO, "", ISOLATED_NETWORK).namespaces
    assert NETWORK not in choose(BARE_HOST, AUTO, "", HOST_NETWORK).namespaces
    assert not choose(PLAIN_CONTAINER, AUTO, "", ISOLATED_NETWORK).for_parent()["has_network"]
    without = dataclasses.replace(PLAIN_CONTAINER, has_seccomp=False)
    with pytest.raises(ValueError, match=r"sandbox\.network is isolated"):
        choose(without, AUTO, "", ISOLATED_NETWORK)
