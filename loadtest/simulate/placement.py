"""Events into shards that nothing leaves: where the project's own choice puts each of them."""

from collections.abc import Sequence

from loadtest.simulate import choices
from loadtest.simulate.traffic import Traffic, tenant_name
from loadtest.simulate.views import Views
from services.policy.shard_choice import Draw

MAX_SHARDS = 10_000


def place(
    policy: str,
    shards: int,
    traffic: Traffic,
    views: Views,
    draws: Sequence[Draw],
    *,
    batch: int = 1,
    choice_run: int = 1,
) -> list[int]:
    """Every shard's depth after the traffic.

    views, draws: what each frontend knows and draws with. Batches of so many events go round the frontends;
    `choice_run` events of one tenant that a frontend has in a row share a choice, as `frontend.choice_run` says.
    ValueError: no such policy, or shards not within 1 to MAX_SHARDS.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise ValueError(f"{shards} shards: 1 to {MAX_SHARDS:,}")
    frontends = len(views.known)
    choosers = [choices.make(policy).choose for _ in range(frontends)]
    quotas = traffic.quotas() if choices.tells_quotas(policy) else {}
    names = {tenant: tenant_name(tenant) for tenant in set(traffic.arrivals)}
    depths = [0] * shards
    runs: list[tuple[int, int, int]] = [(-1, 0, 0)] * frontends
    for index, tenant in enumerate(traffic.arrivals):
        frontend = (index // batch) % frontends
        owner, shard, left = runs[frontend]
        if owner != tenant or not left:
            chosen = choosers[frontend](
                names[tenant], quotas.get(tenant, 0.0), views.known[frontend], draws[frontend], 0.0
            )
            assert chosen is not None, "every simulated shard is healthy"
            shard, left = chosen, choice_run
        runs[frontend] = (tenant, shard, left - 1)
        depths[shard] += 1
        views.placed(frontend, shard)
    return depths
