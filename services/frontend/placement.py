"""Which host runs a synchronous invocation: the function's own host while it has room, else the one with most room."""

import hashlib
from collections.abc import Mapping


def choose_host(tenant_id: str, function_name: str, credits: Mapping[str, int]) -> str | None:
    """The host for one invocation among those with room; None when there is none.

    Rendezvous hashing orders the hosts for each function, so that warm sandboxes are found again and a host that goes
    moves only its own functions. `credits`: host id -> invocations that it takes now.
    """
    rooms = [host_id for host_id, room in credits.items() if room > 0]
    if len(rooms) < 2:
        return rooms[0] if rooms else None
    preferred = max(rooms, key=lambda host_id: _weight(tenant_id, function_name, host_id))
    most = max(rooms, key=lambda host_id: credits[host_id])
    # Affinity gives way when its host is nearly full and another has far more room.
    return preferred if credits[preferred] * 4 >= credits[most] else most


def _weight(tenant_id: str, function_name: str, host_id: str) -> bytes:
    return hashlib.blake2b(f"{tenant_id}\x00{function_name}\x00{host_id}".encode(), digest_size=8).digest()
