"""The policies that are compared, by name: the project's own, and the least deep of all shards as a bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.policy.shard_choice import Depths, Draw, ShardChoice, make_choice


@dataclass(frozen=True, slots=True)
class Named:
    """One policy as the frontend's settings name it.

    setting, count: frontend.shard_choice and frontend.shard_choice_d; tells_quotas: the configuration has the tenants'
    quotas, without them a shuffle shard is two wide.
    """

    setting: str
    count: int = 2
    tells_quotas: bool = False


class GlobalLeast:
    """The least deep of all healthy shards: the best there is while depths are fresh, the worst when not.

    No policy of the fleet; what herding on stale depths is shown with. draws_ties: among equals one is drawn; else the
    first is taken.
    """

    def __init__(self, draws_ties: bool = True) -> None:
        self._draws_ties = draws_ties

    def choose(self, tenant_id: str, quota_share: float, depths: Depths, draw: Draw, now_ms: float) -> int | None:
        """See ShardChoice."""
        if not depths.healthy:
            return None
        estimates = depths.estimates
        if not self._draws_ties:
            return min(depths.healthy, key=estimates.__getitem__)
        lowest = min(map(estimates.__getitem__, depths.healthy))
        tied = [shard_id for shard_id in depths.healthy if estimates[shard_id] == lowest]
        return tied[int(draw() * len(tied))]


POLICIES: Mapping[str, Named] = {
    "hash": Named("hash"),
    "random": Named("random"),
    "best_of_two": Named("best_of_two"),
    "best_of_four": Named("best_of_d", 4),
    "shuffle_two": Named("shuffle_shard"),
    "shuffle_quota": Named("shuffle_shard", tells_quotas=True),
}
# Those whose choice does not look at depths.
BLIND = frozenset({"hash", "random"})
_MORE: Mapping[str, Callable[[], ShardChoice]] = {
    "global_least": GlobalLeast,
    "global_least_first": lambda: GlobalLeast(draws_ties=False),
    "best_of_three": lambda: make_choice("best_of_d", 3),
}
NAMES = (*POLICIES, *_MORE)


def tells_quotas(name: str) -> bool:
    """Whether the tenants' quotas are told to this policy."""
    return name in POLICIES and POLICIES[name].tells_quotas


def make(name: str, seed: int = 0) -> ShardChoice:
    """A choice of this name; seed: of the tenants' hashes. ValueError: there is none."""
    if name in POLICIES:
        named = POLICIES[name]
        return make_choice(named.setting, named.count, seed)
    if name in _MORE:
        return _MORE[name]()
    raise ValueError(f"{name!r} is no policy of the simulator: {', '.join(NAMES)}")
