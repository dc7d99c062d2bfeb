"""Placement: which runtime host an invocation goes to. Pure; pollers and the simulator use it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence


def rank_hosts(tenant_id: str, function_name: str, host_ids: Iterable[str]) -> tuple[str, ...]:
    """The hosts in the function's own order, the preferred one first.

    Rendezvous hashing (Thaler and Ravishankar): a function meets its warm sandboxes again, and a host that goes moves
    only the functions that preferred it.
    """
    seed = f"{tenant_id}\x00{function_name}\x00"
    return tuple(sorted(host_ids, key=lambda host_id: _weight(seed, host_id), reverse=True))


def choose_host(ranked: Sequence[str], credits: Mapping[str, int]) -> str | None:
    """The preferred host while it has credits, else the one with the most; None when no host has any.

    `ranked` comes from `rank_hosts`; `credits`: host id -> invocations that it takes now. Between equals the function's
    order decides, so that its overflow stays on few hosts.
    """
    if not ranked:
        return None
    if credits.get(ranked[0], 0) > 0:
        return ranked[0]
    best = max(ranked, key=lambda host_id: credits.get(host_id, 0))
    return best if credits.get(best, 0) > 0 else None


def _weight(seed: str, host_id: str) -> bytes:
    return hashlib.blake2b((seed + host_id).encode(), digest_size=8).digest()
