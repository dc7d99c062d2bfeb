"""Shard choice: which shard a new event goes to. Pure: randomness and time are handed in; the simulator uses it too.

Depths are counted as last reported plus own sends that the report cannot know yet: stale depths make everybody run to
the same shard (Mitzenmacher, How useful is old information?).
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

Draw = Callable[[], float]
POLICIES = ("hash", "random", "best_of_two", "best_of_d", "shuffle_shard")
DEFAULT_POLICY = "best_of_two"
MAX_CHOICES = 16
# A tenant's shuffle shard is this many times as wide as its quota asks for, and at least MIN_WIDTH shards.
WIDTH_FACTOR = 4
MIN_WIDTH = 2
# A shard that comes back gets its full share of draws only after this time.
RAMP_MS = 5_000.0
# Sets of shards are remembered for so many tenants; more are worked out again.
MAX_REMEMBERED_TENANTS = 10_000
_MASK = (1 << 64) - 1


class Depths:
    """What one frontend knows of every shard: depth, health, own sends in flight."""

    def __init__(self, shard_count: int, healthy: bool = True) -> None:
        self.shard_count = shard_count
        self.estimates = [0] * shard_count
        self.healthy: list[int] = list(range(shard_count)) if healthy else []
        self._reported = [0] * shard_count
        self._in_flight = [0] * shard_count
        self._is_healthy = [healthy] * shard_count
        self._was_healthy = [healthy] * shard_count
        self._healthy_since_ms = [-math.inf] * shard_count
        self._ramp_ends_ms = -math.inf

    def report(self, shard_id: int, depth: int) -> None:
        """The shard told its depth; sends that are not answered yet are counted on top."""
        self._reported[shard_id] = depth
        self.estimates[shard_id] = depth + self._in_flight[shard_id]

    def sent(self, shard_id: int, events: int = 1) -> None:
        """So many events are on their way to the shard."""
        self._in_flight[shard_id] += events
        self.estimates[shard_id] += events

    def answered(self, shard_id: int, events: int, depth: int | None = None) -> None:
        """So many of them are answered; `depth` is the shard's own count after that, None when it told none."""
        in_flight = max(0, self._in_flight[shard_id] - events)
        self._in_flight[shard_id] = in_flight
        if depth is not None:
            self._reported[shard_id] = depth
        self.estimates[shard_id] = self._reported[shard_id] + in_flight

    def set_healthy(self, shard_id: int, healthy: bool, now_ms: float) -> bool:
        """Take a shard out of the choice or back in; returns whether that changed something."""
        if self._is_healthy[shard_id] == healthy:
            return False
        self._is_healthy[shard_id] = healthy
        self.healthy = [s for s in range(self.shard_count) if self._is_healthy[s]]
        if healthy and not self._was_healthy[shard_id]:
            # Its first time: everybody starts together and nobody needs to be spared.
            self._was_healthy[shard_id] = True
        elif healthy:
            self._healthy_since_ms[shard_id] = now_ms
            self._ramp_ends_ms = max(self._ramp_ends_ms, now_ms + RAMP_MS)
        return True

    def is_healthy(self, shard_id: int) -> bool:
        """Whether the shard may be chosen."""
        return self._is_healthy[shard_id]

    def ramp(self, shard_id: int, now_ms: float) -> float:
        """The part of its draws that a shard keeps, 0 to 1: it grows with the time since it came back."""
        if now_ms >= self._ramp_ends_ms:
            return 1.0
        return min(1.0, (now_ms - self._healthy_since_ms[shard_id]) / RAMP_MS)


class ShardChoice(Protocol):
    """Event -> shard."""

    def choose(self, tenant_id: str, quota_share: float, depths: Depths, draw: Draw, now_ms: float) -> int | None:
        """A healthy shard, or None when no candidate is. `draw` gives numbers within [0, 1); `quota_share` is the
        tenant's expected part of all traffic, 0 to 1."""
        ...


def draw_distinct(candidates: Sequence[int], count: int, draw: Draw) -> list[int]:
    """`count` different members, each set equally likely (Floyd); all of them when there are no more."""
    size = len(candidates)
    if count >= size:
        return list(candidates)
    picked: list[int] = []
    for upper in range(size - count, size):
        index = int(draw() * (upper + 1))
        picked.append(upper if index in picked else index)
    return [candidates[index] for index in picked]


def least_deep(candidates: Iterable[int], estimates: Sequence[int]) -> int:
    """The least deep candidate; the first drawn wins a tie, which is fair as they are drawn."""
    return min(candidates, key=estimates.__getitem__)


def shuffle_width(quota_share: float, shard_count: int) -> int:
    """Shards that a tenant is spread over: max(2, ceil(4 * quota share * N)), at most all."""
    return min(shard_count, max(MIN_WIDTH, math.ceil(WIDTH_FACTOR * quota_share * shard_count)))


def shuffle_set(tenant_id: str, width: int, shard_count: int, seed: int = 0) -> tuple[int, ...]:
    """The tenant's shards: always the same ones; a wider set begins with the narrower one."""
    state = int.from_bytes(hashlib.sha256(f"{seed}\x00{tenant_id}".encode()).digest()[:8], "big")
    moved: dict[int, int] = {}
    chosen: list[int] = []
    # Fisher-Yates from the front on a sparse array: O(width) whatever the shard count.
    for i in range(min(width, shard_count)):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        j = i + (z ^ (z >> 31)) % (shard_count - i)
        chosen.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return tuple(chosen)


class HashChoice:
    """The shard that the tenant's hash names; while that one is down the next of its order."""

    def __init__(self, seed: int = 0) -> None:
        self._sets = _TenantSets(seed)

    def choose(self, tenant_id: str, quota_share: float, depths: Depths, draw: Draw, now_ms: float) -> int | None:
        """See ShardChoice."""
        if not depths.healthy:
            return None
        first = self._sets.get(tenant_id, 1, depths.shard_count)[0]
        if depths.is_healthy(first):
            return first
        width = MIN_WIDTH
        while True:
            for shard_id in self._sets.get(tenant_id, width, depths.shard_count):
                if depths.is_healthy(shard_id):
                    return shard_id
            width = min(width * 4, depths.shard_count)


class BestOf:
    """The least deep of `count` healthy shards drawn at random; 1 is plain random, 2 the published trade-off."""

    def __init__(self, count: int = 2) -> None:
        if not 1 <= count <= MAX_CHOICES:
            raise ValueError(f"best of {count}: 1 to {MAX_CHOICES} candidates are drawn")
        self._count = count

    def choose(self, tenant_id: str, quota_share: float, depths: Depths, draw: Draw, now_ms: float) -> int | None:
        """See ShardChoice."""
        return _best_of(depths.healthy, self._count, depths, draw, now_ms)


class ShuffleShard:
    """Best of two inside the tenant's own set, whose width follows its quota, never its observed traffic."""

    def __init__(self, seed: int = 0) -> None:
        self._sets = _TenantSets(seed)

    def choose(self, tenant_id: str, quota_share: float, depths: Depths, draw: Draw, now_ms: float) -> int | None:
        """See ShardChoice; None when the whole set is down, as leaving it would break the isolation."""
        width = shuffle_width(quota_share, depths.shard_count)
        members: Sequence[int] = self._sets.get(tenant_id, width, depths.shard_count)
        if len(depths.healthy) < depths.shard_count:
            members = [s for s in members if depths.is_healthy(s)]
        return _best_of(members, MIN_WIDTH, depths, draw, now_ms)


def make_choice(policy: str, count: int = 2, seed: int = 0) -> ShardChoice:
    """The policy of this name. ValueError: there is none."""
    match policy:
        case "hash":
            return HashChoice(seed)
        case "random":
            return BestOf(1)
        case "best_of_two":
            return BestOf(2)
        case "best_of_d":
            return BestOf(count)
        case "shuffle_shard":
            return ShuffleShard(seed)
    raise ValueError(f"{policy!r} is no shard choice: {', '.join(POLICIES)}")


def _best_of(members: Sequence[int], count: int, depths: Depths, draw: Draw, now_ms: float) -> int | None:
    size = len(members)
    if size <= 1:
        return members[0] if size else None
    ramping = now_ms < depths._ramp_ends_ms
    if count == 2 and not ramping:
        # The hot case by hand: two different members and one comparison.
        i = int(draw() * size)
        j = int(draw() * (size - 1))
        if j >= i:
            j += 1
        first, second = members[i], members[j]
        estimates = depths.estimates
        return first if estimates[first] <= estimates[second] else second
    drawn = draw_distinct(members, count, draw)
    if ramping:
        # A shard on its way back gives up part of its draws; if all of the drawn are, the choice is among the rest.
        kept = [s for s in drawn if draw() < depths.ramp(s, now_ms)]
        drawn = kept or [s for s in members if depths.ramp(s, now_ms) >= 1.0] or drawn
        if len(drawn) > count:
            drawn = draw_distinct(drawn, count, draw)
    return least_deep(drawn, depths.estimates)


class _TenantSets:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[tuple[str, int, int], tuple[int, ...]] = {}

    def get(self, tenant_id: str, width: int, shard_count: int) -> tuple[int, ...]:
        key = (tenant_id, width, shard_count)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED_TENANTS:
                self._known.clear()
            found = self._known[key] = shuffle_set(tenant_id, width, shard_count, self._seed)
        return found
