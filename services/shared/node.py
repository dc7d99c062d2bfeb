"""What each service but control is made of: settings, clock, server, traces, metrics, follower, membership."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from evenflow.control.v1 import resources_pb2

from services.shared import ids
from services.shared.channels import GrpcServer, Peer, read_token
from services.shared.clock import SystemClock
from services.shared.follower import ControlFollower
from services.shared.identity import CONTROL, CONTROL_NODE, server_name
from services.shared.membership import Membership
from services.shared.metrics import Metrics
from services.shared.settings import NodeSettings
from services.shared.tls import Tls, check_listen, check_node
from services.shared.tracing import Tracer

# How long a node waits for its first view of the fleet before it gives up.
FIRST_VIEW_SECONDS = 30.0
SERVER_GRACE_SECONDS = 0.5


class Node:
    """One process of the fleet. Make it on the running loop; add servicers to `server.server` before `start`."""

    def __init__(
        self,
        settings: NodeSettings,
        role: "resources_pb2.NodeRole.ValueType",
        service_names: Iterable[str],
        slots: int = 0,
    ) -> None:
        service = resources_pb2.NodeRole.Name(role).removeprefix("NODE_ROLE_").lower()
        self.settings = settings
        self.clock = SystemClock()
        self.incarnation = ids.new_incarnation()
        self.token = read_token(settings.token_file)
        self.tls = Tls.of(settings)
        check_listen(settings.listen_address, self.tls)
        check_node(self.tls, service, settings.node_id)
        self.tracer = Tracer(service, settings, self.clock)
        self.metrics = Metrics(service, settings)
        self.server = GrpcServer(self.token, service_names, self.tls)
        self._peers: dict[tuple[str, str], Peer] = {}
        control = self.dial(settings.control_target)
        snapshot_path = Path(settings.data_dir) / "snapshots" / f"{settings.node_id}.bin"
        # Whoever runs functions or moves events has no business with the secrets that requests are signed with.
        is_door = role == resources_pb2.NODE_ROLE_FRONTEND
        self.follower = ControlFollower(control, settings.node_id, snapshot_path, keeps_secrets=is_door)
        self.membership = Membership(
            control,
            node_id=settings.node_id,
            role=role,
            incarnation=self.incarnation,
            address=settings.advertised_address,
            slots=slots,
        )

    def dial(self, target: str) -> Peer:
        """The peer at this address, a member's or control's; one channel an address.

        Over TLS it must prove to be the member that has this address now. ValueError: no member has it.
        """
        name = self._name_of(target) if self.tls is not None else ""
        peer = self._peers.get((target, name))
        if peer is None:
            peer = self._peers[target, name] = Peer.dial(target, self.token, self.tls, name)
        return peer

    def _name_of(self, target: str) -> str:
        if target == self.settings.control_target:
            return server_name(CONTROL, CONTROL_NODE)
        for member in self.follower.view.members.values():
            if member.address == target:
                role = resources_pb2.NodeRole.Name(member.role).removeprefix("NODE_ROLE_").lower()
                return server_name(role, member.node_id)
        raise ValueError(f"no member of the fleet has the address {target}")

    async def start_following(self) -> None:
        """Get the first view of the fleet. TimeoutError as ValueError: neither control nor a snapshot is there."""
        self.follower.start()
        try:
            async with asyncio.timeout(FIRST_VIEW_SECONDS):
                await self.follower.wait_ready()
        except TimeoutError:
            raise ValueError(
                f"control at {self.settings.control_target} did not answer within {FIRST_VIEW_SECONDS:.0f} s "
                "and there is no snapshot on disk"
            ) from None

    async def start(self) -> None:
        """Bind and serve, then join the fleet. Call `start_following` first when serving needs the view."""
        if not self.follower.is_started:
            await self.start_following()
        self.metrics.serve(self.token)
        self.server.bind(self.settings.listen_address)
        await self.server.start()
        self.membership.start()

    async def drain(self) -> None:
        """Tell control and health checks that nothing new should come here."""
        self.membership.leave()
        await self.server.set_serving(False)

    async def stop(self) -> None:
        """Close everything; spans and the snapshot are flushed."""
        await self.membership.stop()
        await self.server.stop(SERVER_GRACE_SECONDS)
        await self.follower.stop()
        for peer in self._peers.values():
            await peer.close()
        self.metrics.shutdown()
        self.tracer.shutdown()
