"""How every concurrency limit is shared out over runtime hosts. Pure.

A share is safe to count on because of one rule, kept here: a raise is told only to a host whose last report was exactly
its target (settled), and only out of what nobody else can hold any more. So no report is under way when a raise leaves,
and whatever a host reports afterwards bounds what it holds from then on.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Host:
    """A runtime host that can be told targets now; a leaving one is to hold nothing. `slots`: sandboxes at once."""

    slots: int
    is_leaving: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """One host's part of one limit.

    target: what the host was told last. held: the most it may hold by its reports. is_settled: its last report was the
    target and nothing is under way.
    """

    target: int
    held: int
    is_settled: bool

    @property
    def bound(self) -> int:
        """What must be counted as taken."""
        return max(self.target, self.held)


ShareKey = tuple[str, str]
NOTHING = Share(0, 0, True)


def limit_key(tenant_id: str, function_name: str) -> str:
    """The limit of a function with reserved concurrency."""
    return f"function/{tenant_id}/{function_name}"


def plan_targets(
    limits: Mapping[str, int],
    hosts: Mapping[str, Host],
    shares: Mapping[ShareKey, Share],
    account_limit: int,
) -> dict[ShareKey, int]:
    """The targets that should change now, by (limit key, host id); each is safe to tell as soon as it is durable.

    limits: limit key -> invocations at once; a share of a key that is not there is taken back. hosts: those in touch;
    the share of any other host stays as it is and counts. Never does a raise make the shares of a limit exceed it, nor
    those of all limits together the account's.
    """
    by_limit: dict[str, dict[str, Share]] = {key: {} for key in limits}
    total = 0
    for (key, host_id), share in shares.items():
        by_limit.setdefault(key, {})[host_id] = share
        total += share.bound
    changes: dict[ShareKey, int] = {}
    # The account's rest comes last: what is reserved is promised.
    for key in sorted(by_limit, key=lambda k: (k == ACCOUNT, k)):
        limit, own = limits.get(key, 0), by_limit[key]
        goals = _goals(key, limit, hosts, own)
        taken = sum(share.bound for share in own.values())
        for host_id, goal in goals.items():
            share = own.get(host_id, NOTHING)
            if goal < share.target:
                changes[key, host_id] = goal
            elif goal > share.target and share.is_settled:
                raised_by = min(goal - share.target, limit - taken, account_limit - total)
                if raised_by > 0:
                    changes[key, host_id] = share.target + raised_by
                    taken += raised_by
                    total += raised_by
    return changes


def _goals(key: str, limit: int, hosts: Mapping[str, Host], own: Mapping[str, Share]) -> dict[str, int]:
    out_of_touch = sum(share.bound for host_id, share in own.items() if host_id not in hosts)
    weights = {host_id: host.slots for host_id, host in hosts.items() if host.slots and not host.is_leaving}
    targets = {host_id: share.target for host_id, share in own.items()}
    goals = divide(max(0, limit - out_of_touch), weights, targets, seed=key)
    for host_id in own:
        if host_id in hosts:
            goals.setdefault(host_id, 0)
    return goals


def divide(amount: int, weights: Mapping[str, int], current: Mapping[str, int], seed: str = "") -> dict[str, int]:
    """Parts of the amount in proportion to the weights, none above its weight; they add up to the amount if it fits.

    What division leaves over goes by largest remainder; between equals to who has a part already, then by the seed, so
    that the single slots of many small limits spread.
    """
    total = sum(weights.values())
    if amount >= total:
        return dict(weights)
    parts = {name: amount * weight // total for name, weight in weights.items()}
    order = sorted(
        weights,
        key=lambda name: (
            -(amount * weights[name] % total),
            current.get(name, 0) <= parts[name],
            zlib.crc32(f"{seed}\x00{name}".encode()),
            name,
        ),
    )
    for name in order[: amount - sum(parts.values())]:
        parts[name] += 1
    return parts
