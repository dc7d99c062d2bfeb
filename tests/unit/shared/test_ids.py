"""Request ids: the shard in them, their order, and that derived ones repeat."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.shared import ids

SHARDS = st.integers(0, ids.MAX_SHARDS - 1)
GOLDEN = "a629ee7f-8dc4-8000-9731-c97536ac4dd1"
TIMES = st.integers(0, (1 << 48) - 1)


@given(shard_id=SHARDS, wall_ms=TIMES, random=st.binary(min_size=8, max_size=8))
def test_a_minted_id_says_its_shard_and_reads_as_a_uuid(shard_id: int, wall_ms: int, random: bytes) -> None:
    """Over the whole range, whatever time and chance are."""
    request_id = ids.mint(wall_ms, shard_id, lambda _count: random)
    assert ids.shard_of(request_id) == shard_id and not ids.is_derived(request_id)
    text = ids.to_text(request_id)
    assert uuid.UUID(text).version == 7 and uuid.UUID(text).variant == uuid.RFC_4122
    assert ids.from_text(text) == ids.from_text(f" {text.upper()} ") == request_id
    assert int.from_bytes(request_id[:6], "big") == wall_ms


@given(times=st.lists(TIMES, min_size=2, max_size=2, unique=True), shards=st.tuples(SHARDS, SHARDS))
def test_minted_ids_are_in_order_of_time(times: list[int], shards: tuple[int, int]) -> None:
    """Bytes and text compare like their times, over all shards."""
    early, late = (ids.mint(t, s) for t, s in zip(sorted(times), shards, strict=True))
    assert early < late and ids.to_text(early) < ids.to_text(late)


def test_minted_ids_of_one_moment_differ() -> None:
    """58 random bits tell them apart."""
    assert len({ids.mint(1, 1) for _ in range(1_000)}) == 1_000


@given(tenant=st.text(max_size=5), seed=st.binary(max_size=20), shard_count=st.integers(1, ids.MAX_SHARDS))
def test_a_derived_id_repeats_and_lies_in_a_shard(tenant: str, seed: bytes, shard_count: int) -> None:
    """The same seed gives the same id, in a shard that exists."""
    request_id = ids.derive(tenant, "token", seed, shard_count)
    assert request_id == ids.derive(tenant, "token", seed, shard_count)
    assert ids.is_derived(request_id) and ids.shard_of(request_id) < shard_count
    assert uuid.UUID(ids.to_text(request_id)).version == 8


def test_derived_ids_of_different_tenants_purposes_and_seeds_differ() -> None:
    """Each part counts; joining them in another way does not give the same."""
    seeds = [
        ("t", "token", b"a"),
        ("u", "token", b"a"),
        ("t", "destination:x", b"a"),
        ("t", "token", b"b"),
        ("t", "", b"tokena"),
    ]
    assert len({ids.derive(*seed, 64) for seed in seeds}) == len(seeds)


def test_a_derived_id_is_the_same_in_every_release() -> None:
    """Stored ids must be met again: this one is fixed."""
    assert ids.to_text(ids.derive("default", "token", b"order-1", 8)) == GOLDEN


def test_derived_ids_spread_over_the_shards() -> None:
    """No shard of 8 is left out or gets much more than its part."""
    counts = [0] * 8
    for i in range(4_000):
        counts[ids.shard_of(ids.derive("t", "token", str(i).encode(), 8))] += 1
    assert min(counts) > 400 and max(counts) < 600


@pytest.mark.parametrize("shard_id", [-1, ids.MAX_SHARDS])
def test_a_shard_that_no_id_can_say_is_refused(shard_id: int) -> None:
    with pytest.raises(ValueError, match="shard_id"):
        ids.mint(1, shard_id)


@pytest.mark.parametrize("text", ["", "x", str(uuid.UUID(int=0)), "c9bf9e57-1685-4c89-bafb-ff5af830be8a"])
def test_what_is_no_id_of_this_project_is_refused(text: str) -> None:
    """A UUID of another version too."""
    with pytest.raises(ValueError):
        ids.from_text(text)


def test_incarnations_differ() -> None:
    """Each start of a process is told apart."""
    assert len({ids.new_incarnation() for _ in range(1_000)}) == 1_000
