"""All queue nodes: a link pair to each, opened and closed as the fleet's membership changes."""

import asyncio
from collections.abc import Callable, Iterator

from evenflow.control.v1 import resources_pb2

from services.poller.functions import FunctionKey
from services.poller.queue_node import LeaseOwner, QueueNode
from services.poller.settings import PollerSettings
from services.poller.window import Window
from services.shared.channels import Peer
from services.shared.clock import Clock
from services.shared.config_view import ConfigView

_MEMBER = resources_pb2.MemberState
_TALKED_TO = (
    _MEMBER.MEMBER_STATE_ALIVE,
    _MEMBER.MEMBER_STATE_UNREACHABLE,
    # A leaving node still takes settlements.
    _MEMBER.MEMBER_STATE_LEAVING,
)


class QueueFleet:
    """Follows the members with role queue."""

    def __init__(
        self,
        settings: PollerSettings,
        *,
        incarnation: str,
        view: Callable[[], ConfigView],
        dial: Callable[[str], Peer],
        window: Window,
        clock: Clock,
        owner: LeaseOwner,
        on_gone: Callable[[QueueNode], None],
    ) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._view = view
        self._dial = dial
        self._window = window
        self._clock = clock
        self._owner = owner
        self._on_gone = on_gone
        self._nodes: dict[str, QueueNode] = {}
        self._closing: set[asyncio.Task[None]] = set()
        # Nodes that have shards: what is bounded for all of them is shared by so many.
        self.owner_count = 1
        # Bounds of leases by function, the same for every node.
        self.limits: dict[FunctionKey, int] = {}

    def __iter__(self) -> Iterator[QueueNode]:
        return iter(self._nodes.values())

    @property
    def leases_held(self) -> int:
        """Leases of all nodes."""
        return sum(len(node.leases) for node in self)

    def follow(self) -> None:
        """Open and close links as the members say."""
        members = {
            m.node_id: m for m in self._view().members_of(resources_pb2.NODE_ROLE_QUEUE) if m.state in _TALKED_TO
        }
        for node_id, node in list(self._nodes.items()):
            member = members.get(node_id)
            if member is None or member.address != node.target:
                del self._nodes[node_id]
                self._on_gone(node)
                task = asyncio.create_task(node.close(), name=f"close {node_id}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for node_id, member in members.items():
            if node_id not in self._nodes:
                node = self._nodes[node_id] = QueueNode(
                    member,
                    self._dial(member.address),
                    poller_id=self._settings.node_id,
                    incarnation=self._incarnation,
                    epoch=self._epoch,
                    limits=self.limits,
                    window=self._window,
                    clock=self._clock,
                    owner=self._owner,
                    settle_keep_ms=self._settings.settle_keep_seconds * 1_000,
                )
                node.start()
        shard_map = self._view().shard_map
        owners = set(shard_map.owner_node_ids) if shard_map is not None else set(self._nodes)
        for node_id, node in self._nodes.items():
            node.has_shards = node_id in owners
        self.owner_count = max(1, sum(node.has_shards for node in self._nodes.values()))
        self._window.nodes = self.owner_count
        self.wake()

    def wake(self) -> None:
        """The window may have opened."""
        for node in self._nodes.values():
            node.wake()

    def set_limit(self, key: FunctionKey, max_leases: int | None) -> None:
        """Bound the leases of a function at every node; None lifts the bound."""
        if max_leases is None:
            if self.limits.pop(key, None) is None:
                return
        elif self.limits.get(key) == max_leases:
            return
        else:
            self.limits[key] = max_leases
        for node in self._nodes.values():
            node.limit_changed(key)

    async def stop_leasing(self) -> None:
        """Have no node deliver anything more; settlements go on."""
        await asyncio.gather(*(node.stop_leasing() for node in self._nodes.values()))

    async def close(self) -> None:
        """End every stream."""
        await asyncio.gather(*(node.close() for node in self._nodes.values()), *self._closing, return_exceptions=True)
        self._nodes.clear()

    def _epoch(self) -> int:
        shard_map = self._view().shard_map
        return shard_map.epoch if shard_map is not None else 0
