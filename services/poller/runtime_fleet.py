"""All runtime hosts, and which of them runs what."""

import asyncio
from collections.abc import Callable, Iterator

from evenflow.control.v1 import resources_pb2

from services.policy.placement import choose_host, choose_sharing_host
from services.poller.functions import FunctionBook, FunctionKey, Plan
from services.poller.held import Held
from services.poller.runtime_host import RunOwner, RuntimeHost
from services.poller.settings import PollerSettings
from services.shared.channels import Peer
from services.shared.config_view import ConfigView


class RuntimeFleet:
    """Follows the members with role runtime; places invocations by affinity and credits."""

    def __init__(
        self,
        settings: PollerSettings,
        *,
        incarnation: str,
        view: Callable[[], ConfigView],
        dial: Callable[[str], Peer],
        functions: FunctionBook,
        owner: RunOwner,
    ) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._view = view
        self._dial = dial
        self._functions = functions
        self._owner = owner
        self._hosts: dict[str, RuntimeHost] = {}
        self._credits: dict[str, int] = {}
        self._slots: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[RuntimeHost]:
        return iter(self._hosts.values())

    @property
    def room(self) -> int:
        """Invocations that all hosts together take or run for this poller."""
        return sum(host.room for host in self)

    @property
    def load(self) -> tuple[int, int]:
        """What runs at the hosts and what waits there, as they last told."""
        return sum(host.busy for host in self), sum(host.waiting for host in self)

    @property
    def in_flight(self) -> int:
        """Invocations at hosts now."""
        return sum(len(host.running) for host in self)

    def place(self, held: Held, plan: Plan, now_ms: float) -> bool:
        """Send the invocation to a host; False when none has room."""
        credits = self._credits
        if held.avoided:
            credits = {host_id: room for host_id, room in credits.items() if host_id not in held.avoided}
        if plan.is_reserved:
            running = plan.running
            without_share = running.hosts_without_share(now_ms)
            host_id = choose_sharing_host(plan.ranked, credits, running.by_host, self._slots, without_share)
        else:
            host_id = choose_host(plan.ranked, credits, self._crowding)
        if host_id is None:
            return False
        held.host_id = host_id
        self._hosts[host_id].send(held, plan)
        return True

    def _crowding(self, host_id: str) -> float:
        host = self._hosts[host_id]
        # What others have there is known from the host alone, and a moment late.
        return max(len(host.running), host.busy + host.waiting) / max(1, self._slots.get(host_id, 1))

    def stuck(self) -> dict[FunctionKey, int]:
        """By function, the invocations at hosts that take nothing new: they may be frozen, or leave."""
        found: dict[FunctionKey, int] = {}
        for host in self:
            if not host.takes_new:
                for _, plan in host.running.values():
                    found[plan.key] = found.get(plan.key, 0) + 1
        return found

    def has_other(self, held: Held) -> bool:
        """Whether a host that has not refused it has room."""
        return any(room > 0 and host_id not in held.avoided for host_id, room in self._credits.items())

    def follow(self) -> None:
        """Open and close streams as the members say."""
        members = {m.node_id: m for m in self._view().members_of(resources_pb2.NODE_ROLE_RUNTIME)}
        changed = False
        for host_id, host in list(self._hosts.items()):
            member = members.get(host_id)
            if member is None or member.address != host.target:
                changed = True
                del self._hosts[host_id]
                host.retire()
                task = asyncio.create_task(host.close(), name=f"close {host_id}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        alive = {host_id for host_id, m in members.items() if m.state == resources_pb2.MEMBER_STATE_ALIVE}
        for host_id, member in members.items():
            if host_id not in self._hosts:
                changed = True
                host = self._hosts[host_id] = RuntimeHost(
                    member,
                    self._dial(member.address),
                    caller_id=self._settings.node_id,
                    incarnation=self._incarnation,
                    credits=self._credits,
                    max_wait_ms=self._settings.max_wait_ms,
                    owner=self._owner,
                )
                host.start()
            # One that control does not hear may be frozen; when it hears none, control itself may be the trouble.
            is_hope = not alive and member.state == resources_pb2.MEMBER_STATE_UNREACHABLE
            self._hosts[host_id].set_takes_new(host_id in alive or is_hope)
        self._slots = {host_id: member.slots for host_id, member in members.items()}
        if changed:
            self._functions.hosts_changed(sorted(self._hosts))

    async def close(self) -> None:
        """End every stream."""
        await asyncio.gather(*(host.close() for host in self._hosts.values()), *self._closing, return_exceptions=True)
        self._hosts.clear()
