"""How sandboxes that are to be kept ready are spread over runtime hosts, and how far they are. Pure.

A target of a "provisioned/..." limit is a number of sandboxes, not of invocations: those count by the shares of
services.policy.sharing whether their sandbox was ready or not, so the two are planned apart. What is ready stays where
it is; what is missing goes where there is room. A raise waits until what was taken back elsewhere was given back, and
the targets of hosts that are not lost never add up to more than their limit. What is ready may do so for a moment: a
sandbox that came up before its host heard of a lower target is ended then. A lost host's share is given to others,
unlike a share of invocations: if that host is still there, the worst is that too many sandboxes are ready.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.policy.sharing import NOTHING, Host, Share, ShareKey, divide, limit_key

PREFIX = "provisioned/"
READY = "READY"
IN_PROGRESS = "IN_PROGRESS"
FAILED = "FAILED"


def provisioned_key(tenant_id: str, function_name: str, version: str) -> str:
    """The limit of a version's provisioned concurrency."""
    return f"{PREFIX}{tenant_id}/{function_name}/{version}"


def is_provisioned(limit_key: str) -> bool:
    """Whether a limit counts sandboxes to be kept ready."""
    return limit_key.startswith(PREFIX)


def plan_provisioned(
    limits: Mapping[str, int], hosts: Mapping[str, Host], lost: Collection[str], shares: Mapping[ShareKey, Share]
) -> dict[ShareKey, int]:
    """The targets that should change now, by (limit key, host id).

    limits: limit key -> sandboxes; a share of a key that is not there is taken back. hosts: those in touch. lost:
    hosts that are out of touch for so long that their shares count no more; those of others stay as they are.
    """
    by_limit: dict[str, dict[str, Share]] = {key: {} for key in limits}
    room = {host_id: host.slots for host_id, host in hosts.items() if not host.is_leaving}
    for (key, host_id), share in shares.items():
        if host_id not in lost:
            by_limit.setdefault(key, {})[host_id] = share
            if host_id in room:
                room[host_id] -= share.bound
    changes: dict[ShareKey, int] = {}
    for key, own in sorted(by_limit.items()):
        limit = limits.get(key, 0)
        taken = sum(share.bound for share in own.values())
        for host_id, goal in _goals(key, limit, hosts, own, room).items():
            share = own.get(host_id, NOTHING)
            if goal < share.target:
                changes[key, host_id] = goal
            elif goal > share.target and share.held <= share.target:
                raised_by = min(goal - share.target, limit - taken)
                if raised_by > 0:
                    changes[key, host_id] = share.target + raised_by
                    taken += raised_by
                    room[host_id] -= raised_by
    return changes


def _goals(
    key: str, limit: int, hosts: Mapping[str, Host], own: Mapping[str, Share], room: Mapping[str, int]
) -> dict[str, int]:
    elsewhere = sum(share.bound for host_id, share in own.items() if host_id not in hosts)
    amount = max(0, limit - elsewhere)
    targets = {host_id: share.target for host_id, share in own.items() if host_id in room}
    goals = {host_id: 0 for host_id in own if host_id in hosts}
    missing = amount - sum(targets.values())
    if missing < 0:
        return {**goals, **divide(amount, targets, targets, seed=_seed(key))}
    weights = {host_id: left for host_id, left in room.items() if left > 0}
    more = divide(missing, weights, targets, seed=_seed(key)) if weights else {}
    return {**goals, **{host_id: targets.get(host_id, 0) + more.get(host_id, 0) for host_id in {*targets, *more}}}


def _seed(key: str) -> str:
    """The function's own limit: what is left over goes to the hosts that have what is left over of its reservation.

    A ready sandbox on a host without a share could not run.
    """
    tenant_id, function_name, _version = key.removeprefix(PREFIX).split("/")
    return limit_key(tenant_id, function_name)


@dataclass(frozen=True, slots=True)
class Standing:
    """What hosts have of one version. failure: what one of them says is wrong; empty: nothing."""

    target: int = 0
    ready: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """How far the provisioned concurrency of one qualifier is."""

    allocated: int
    available: int
    status: str
    reason: str = ""


def statuses_of(requests: Mapping[str, int], standing: Standing, hosts: Mapping[str, Host]) -> dict[str, Status]:
    """By qualifier, of those that one version's sandboxes are for; the first by name are served first."""
    found: dict[str, Status] = {}
    target, ready = standing.target, min(standing.ready, standing.target)
    slots = sum(host.slots for host in hosts.values() if not host.is_leaving)
    for qualifier, requested in sorted(requests.items()):
        allocated, available = min(requested, target), min(requested, ready)
        target, ready = target - allocated, ready - available
        if available == requested:
            found[qualifier] = Status(allocated, available, READY)
        elif standing.failure:
            found[qualifier] = Status(allocated, available, FAILED, standing.failure)
        elif hosts and slots < requested:
            reason = f"the runtime hosts in touch have room for {slots:,} sandboxes, {requested:,} are asked for"
            found[qualifier] = Status(allocated, available, FAILED, reason)
        else:
            found[qualifier] = Status(allocated, available, IN_PROGRESS)
    return found
