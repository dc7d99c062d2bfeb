"""A network for containers: namespaces, one address each, and faults on the way between them.

Everything is in namespaces of its own, the bridge too: nothing is seen on the machine's own network. Faults are silent,
as a pulled cable in the middle is: no side is told, nothing is refused.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_NETNS = "/run/netns"
_CLONE_NEWNET = 0x40000000
# Nobody's: what is sent there is lost, and the sender does not notice.
_NOWHERE = "02:00:00:00:00:01"
MAX_CONTAINERS = 250
_COMMAND_SECONDS = 20


class Network:
    """One switch; `add` a container, `cut` and `heal` what is between them. `close` removes it all."""

    def __init__(self) -> None:
        self._name = f"ef{secrets.token_hex(3)}"
        self._switch = f"{self._name}-switch"
        self._namespaces: list[str] = []
        self._ports: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._add_namespace(self._switch)
        self._ip("-n", self._switch, "link", "add", "bridge", "type", "bridge", "forward_delay", "0")
        self._ip("-n", self._switch, "link", "set", "bridge", "up")

    def add(self, container: str) -> str:
        """A namespace for a container; its address."""
        number = len(self._addresses) + 1
        if number > MAX_CONTAINERS:
            raise ValueError(f"at most {MAX_CONTAINERS} containers")
        space, port, address = self.namespace_of(container), f"port{number}", f"10.77.0.{number}"
        self._add_namespace(space)
        self._ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("-n", self._switch, "link", "set", port, "master", "bridge", "up")
        self._ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        self._ip("-n", space, "link", "set", "eth0", "up")
        self._ports[container], self._addresses[container] = port, address
        return address

    def address(self, container: str) -> str:
        """A container's address."""
        return self._addresses[container]

    def namespace_of(self, container: str) -> str:
        """The name of its namespace, below /run/netns."""
        return f"{self._name}-{container}"

    def path_of(self, container: str) -> str:
        """The file that stands for its namespace."""
        return f"{_NETNS}/{self.namespace_of(container)}"

    # --- faults

    def cut(self, container: str) -> None:
        """Nothing reaches this container, and nothing that it sends arrives."""
        # Its cable ends nowhere, but has a signal: it notices nothing.
        self._ip("-n", self._switch, "link", "set", self._ports[container], "nomaster")

    def heal(self, container: str) -> None:
        """Undo `cut`."""
        self._ip("-n", self._switch, "link", "set", self._ports[container], "master", "bridge")

    def cut_one_way(self, sender: str, receiver: str) -> None:
        """What `sender` sends to `receiver` is lost; the other direction works."""
        self._ip(
            *("-n", self.namespace_of(sender), "neighbor", "replace", self.address(receiver)),
            *("lladdr", _NOWHERE, "dev", "eth0", "nud", "permanent"),
        )

    def heal_one_way(self, sender: str, receiver: str) -> None:
        """Undo `cut_one_way`."""
        self._ip("-n", self.namespace_of(sender), "neighbor", "del", self.address(receiver), "dev", "eth0")

    def cut_between(self, one: str, other: str) -> None:
        """These two do not reach each other; both reach the rest."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def heal_between(self, one: str, other: str) -> None:
        """Undo `cut_between`."""
        self.heal_one_way(one, other)
        self.heal_one_way(other, one)

    # --- from outside

    def inside(self, container: str, work: Callable[[], T]) -> T:
        """Run this on a thread that is in a container's network: sockets that it makes are the container's."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                enter(self.path_of(container))
                outcome.extend((work(), None))
            except BaseException as e:
                outcome.extend((None, e))

        thread = threading.Thread(target=run, name=f"inside {container}")
        thread.start()
        thread.join()
        value, error = outcome
        if error is not None:
            raise error
        found: T = value
        return found

    def close(self) -> None:
        """Remove every namespace; processes in them must have ended."""
        for name in reversed(self._namespaces):
            with contextlib.suppress(RuntimeError):
                self._ip("netns", "del", name)
        self._namespaces.clear()

    def _add_namespace(self, name: str) -> None:
        self._ip("netns", "add", name)
        self._namespaces.append(name)
        self._ip("-n", name, "link", "set", "lo", "up")

    @staticmethod
    def _ip(*arguments: str) -> None:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=_COMMAND_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def enter(path: str) -> None:
    """Move the calling thread into a network namespace. OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(fd)


def missing() -> str:
    """Why such networks cannot be made here; empty: they can."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces"
    try:
        Network().close()
    except FileNotFoundError:
        return "ip (iproute2) is not here"
    except RuntimeError as e:
        return f"network namespaces cannot be made: {e}"
    return ""
