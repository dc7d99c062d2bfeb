"""Placement: which runtime host an invocation goes to. Pure; pollers and the simulator use it."""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence


def rank_hosts(tenant_id: str, function_name: str, host_ids: Iterable[str]) -> tuple[str, ...]:
    """The hosts in the function's own order, the preferred one first.

    Rendezvous hashing (Thaler and Ravishankar): a function meets its warm sandboxes again, and a host that goes moves
    only the functions that preferred it.
    """
    seed = f"{tenant_id}\x00{function_name}\x00"
    return tuple(sorted(host_ids, key=lambda host_id: _weight(seed, host_id), reverse=True))


def choose_host(ranked: Sequence[str], credits: Mapping[str, int], crowding: Callable[[str], float]) -> str | None:
    """The preferred host while it has credits and a slot for one more, else the least crowded one with credits.

    None when no host has any. `ranked` comes from `rank_hosts`; `credits`: host id -> invocations that it takes now;
    `crowding`: invocations at a host, whoever sent them, for each of its slots. A host takes far more than it runs at
    once, so that its sandboxes never wait: that is no reason to wait there while another host's slots are free.
    Between equals the function's order decides, so that its overflow stays on few hosts.
    """
    if not ranked:
        return None
    if credits.get(ranked[0], 0) > 0 and crowding(ranked[0]) < 1:
        return ranked[0]
    return min((host_id for host_id in ranked if credits.get(host_id, 0) > 0), key=crowding, default=None)


def choose_sharing_host(
    ranked: Sequence[str],
    credits: Mapping[str, int],
    in_flight: Mapping[str, int],
    slots: Mapping[str, int],
    without_share: Container[str],
) -> str | None:
    """For a function with reserved concurrency, of which each host has a part as large as its slots.

    The host with credits that has the least of the function for its slots, so that no part lies idle; between equals
    the function's order decides, so that one run at a time meets its warm sandbox. in_flight: host id -> invocations of
    the function there. without_share: hosts that refused it of late; they are asked only when all have.
    """
    taking = [host_id for host_id in ranked if credits.get(host_id, 0) > 0]
    if not taking:
        return None
    sharing = [host_id for host_id in taking if host_id not in without_share] or taking
    return min(sharing, key=lambda host_id: in_flight.get(host_id, 0) / max(1, slots.get(host_id, 1)))


def _weight(seed: str, host_id: str) -> bytes:
    return hashlib.blake2b((seed + host_id).encode(), digest_size=8).digest()
