"""Attack 10: reach this machine's own services and what lies around it; raw packets.

The metadata address is tried only where the network is the sandbox's own: nothing leaves the machine.
"""

import os
import socket
from typing import Any

from .lib import Event, Tries, canaries_in, run

SECONDS = 1.0
METADATA = ("169.254.169.254", 80)
OUTSIDE = ("192.0.2.1", 80)
_KINDS = {
    "raw": (socket.AF_INET, socket.SOCK_RAW, 1),
    "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
    "vsock": (40, socket.SOCK_STREAM, 0),
    "kernel crypto": (38, socket.SOCK_SEQPACKET, 0),
    "bluetooth": (31, socket.SOCK_RAW, 1),
    "key": (15, socket.SOCK_RAW, 2),
}


def _own_network(event: Event) -> bool:
    return bool(os.stat("/proc/self/ns/net").st_ino != event["net_namespace"])


def _says(family: int, address: "tuple[Any, ...]") -> str:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(address)
        return canaries_in(connection.recv(4_096))


def localhost(event: Event, tries: Tries) -> None:
    """A service of the host on 127.0.0.1."""
    tries.take("127.0.0.1", _says, socket.AF_INET, ("127.0.0.1", event["ports"]["v4"]))


def localhost_v6(event: Event, tries: Tries) -> None:
    """A service of the host on ::1."""
    tries.take("::1", _says, socket.AF_INET6, ("::1", event["ports"]["v6"]))


def own_address(event: Event, tries: Tries) -> None:
    """A service of the host on the address that others see."""
    address = event["own_address"]
    if not address:
        return tries.refuse("the machine has no other address")
    tries.take("the host's address", _says, socket.AF_INET, (address, event["ports"]["own"]))


def metadata(event: Event, tries: Tries) -> None:
    """The cloud's metadata address, and one outside."""
    if not _own_network(event):
        return tries.refuse("not tried: this is the host's network, by design")

    def attempt(address: "tuple[str, int]") -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect(address)
        return True

    for address in (METADATA, OUTSIDE):
        tries.take(address[0], attempt, address)


def sockets(event: Event, tries: Tries) -> None:
    """Kinds of sockets that no handler needs; they are made, never connected."""

    def attempt(family: int, kind: int, protocol: int) -> bool:
        socket.socket(family, kind, protocol).close()
        return True

    for name, arguments in _KINDS.items():
        tries.take(name, attempt, *arguments)


def handler(event: Event, _context: object) -> "dict[str, Any]":
    """Looks around."""
    return run(
        {
            "localhost": localhost,
            "localhost on IPv6": localhost_v6,
            "the host's address": own_address,
            "metadata address": metadata,
            "raw and other sockets": sockets,
        },
        event,
    )
