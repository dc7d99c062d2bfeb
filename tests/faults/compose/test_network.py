"""The network under the compose runner: names of nobody on this machine, and faults that are silent and end."""

import secrets
import socket
from collections.abc import Iterator

import pytest

from tests.kit.compose_runner import network
from tests.kit.compose_runner.network import Network
from tests.kit.compose_runner.runner import namespaces

missing = network.missing()
pytestmark = pytest.mark.skipif(bool(missing), reason=missing)
# Long enough for a datagram on a busy machine; short enough to wait for one that does not come.
ARRIVES_SECONDS, LOST_SECONDS = 5.0, 0.2


class Post:
    """One datagram socket in a container."""

    def __init__(self, net: Network, name: str) -> None:
        self.address = net.address(name)
        self._socket = net.inside(name, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((self.address, 5000))

    def reaches(self, other: "Post", within_seconds: float) -> bool:
        """Whether what this one sends arrives there; sending itself never fails."""
        word = secrets.token_bytes(8)
        self._socket.sendto(word, (other.address, 5000))
        other._socket.settimeout(within_seconds)
        try:
            # What waited for an address while the way was cut comes first.
            while other._socket.recv(16) != word:
                continue
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def net() -> Iterator[Network]:
    """Three containers."""
    before = namespaces()
    made = Network()
    try:
        for name in ("a", "b", "c"):
            made.add(name)
        yield made
    finally:
        made.close()
    assert namespaces() == before


def test_faults_take_what_they_say_and_no_more(net: Network) -> None:
    """Cut off whole, between two, one way; each healed again."""
    a, b, c = (Post(net, name) for name in ("a", "b", "c"))

    def seen(within_seconds: float = ARRIVES_SECONDS) -> set[str]:
        return {pair for pair, (one, other) in pairs.items() if one.reaches(other, within_seconds)}

    pairs = {"ab": (a, b), "ba": (b, a), "bc": (b, c), "cb": (c, b), "ac": (a, c), "ca": (c, a)}
    everything = set(pairs)
    assert seen() == everything
    net.cut_one_way("a", "b")
    assert seen(LOST_SECONDS) == everything - {"ab"}
    net.heal_one_way("a", "b")
    assert seen() == everything
    net.cut_between("b", "c")
    assert seen(LOST_SECONDS) == everything - {"bc", "cb"}
    net.heal_between("b", "c")
    net.cut("c")
    assert seen(LOST_SECONDS) == {"ab", "ba"}
    net.heal("c")
    assert seen() == everything
    for post in (a, b, c):
        post.close()


def test_nothing_of_it_is_on_the_machine_s_network(net: Network) -> None:
    """Neither the addresses nor the bridge."""
    assert {name for _, name in socket.if_nameindex()}.isdisjoint({"bridge", "port1", "eth0.a"})
    assert net.inside("a", lambda: {name for _, name in socket.if_nameindex()}) == {"lo", "eth0"}
    with pytest.raises(ZeroDivisionError):
        net.inside("a", lambda: 1 // 0)
