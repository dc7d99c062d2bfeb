"""A node's presence in the fleet: the Join stream to control."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from evenflow.control.v1 import control_pb2, control_pb2_grpc, resources_pb2

from services.shared.channels import Peer
from services.shared.streams import StreamLink

DEFAULT_HEARTBEAT_MS = 1_000
# For the last reports to reach control, so that it knows a clean end from a lost node.
GOODBYE_SECONDS = 0.5
_Request = control_pb2.JoinRequest
_Response = control_pb2.JoinResponse


class Membership:
    """Joins, sends heartbeats, reports shares; hands control's grants to the callbacks."""

    def __init__(
        self,
        peer: Peer,
        *,
        node_id: str,
        role: "resources_pb2.NodeRole.ValueType",
        incarnation: str,
        address: str,
        slots: int = 0,
    ) -> None:
        self.on_share_target: Callable[[control_pb2.ShareTarget], None] = lambda _target: None
        self.on_source_lease: Callable[[control_pb2.SourceLease], None] = lambda _lease: None
        self.on_source_revoked: Callable[[control_pb2.SourceRevoked], None] = lambda _revoked: None
        self.fleet_id = ""
        self._hello = control_pb2.JoinHello(
            node_id=node_id, role=role, incarnation=incarnation, address=address, slots=slots
        )
        # By limit key: what is held, and why not more of it is.
        self._held: OrderedDict[str, tuple[int, str]] = OrderedDict()
        # What the hello of the current stream said: held shares, and whether this node leaves.
        self._said: tuple[dict[str, tuple[int, str]], bool] = ({}, False)
        # By source id: how far it came, as long as control was not told. Bounded by the sources that a poller runs.
        self._progress: dict[str, control_pb2.SourceProgress] = {}
        self._outbox: deque[_Request] = deque()
        self._welcomed = asyncio.Event()
        self._heartbeat_seconds = DEFAULT_HEARTBEAT_MS / 1_000
        self._leaving = False
        self._heartbeats: asyncio.Task[None] | None = None
        stub = control_pb2_grpc.ControlServiceStub(peer.channel)
        self._link: StreamLink[_Request, _Response] = StreamLink(
            f"control ({node_id})",
            dial=lambda: stub.Join(metadata=peer.metadata),
            hello=self._say_hello,
            produce=lambda: self._outbox.popleft() if self._outbox else None,
            on_message=self._on_message,
            on_up=self._catch_up,
        )

    def start(self) -> None:
        """Join and stay joined."""
        self._link.start()
        self._heartbeats = asyncio.create_task(self._beat(), name="heartbeats")

    async def wait_welcome(self) -> None:
        """Until control took the node in for the first time."""
        await self._welcomed.wait()

    def report_share(self, limit_key: str, held: int, failure: str = "") -> None:
        """Tell control what this node holds of a limit now; remembered for the next hello. 0 forgets the key.

        failure: for provisioned limits, why not more are ready; at most 512 bytes; empty: nothing is wrong.
        ValueError: `held` is no number that control takes; nothing of it is remembered.
        """
        # Made first: one that cannot be told must not be in every hello from then on.
        share = control_pb2.ShareHeld(limit_key=limit_key, held=held, failure=failure)
        if held or failure:
            self._held[limit_key] = held, failure
        else:
            self._held.pop(limit_key, None)
        if self._link.is_up:
            self._send(_Request(share_held=share))

    def report_progress(self, source_id: str, epoch: int, done_until_ms: int) -> None:
        """Tell control how far a source came, now or when it is reached again; only the last word of each counts."""
        self._progress[source_id] = control_pb2.SourceProgress(
            source_id=source_id, epoch=epoch, done_until_ms=done_until_ms
        )
        if self._link.is_up:
            self._tell_progress()

    def _tell_progress(self) -> None:
        for progress in self._progress.values():
            self._send(_Request(source_progress=progress))
        self._progress.clear()

    def leave(self) -> None:
        """Tell control that this node drains."""
        self._leaving = True
        if self._link.is_up:
            self._send(_Request(leaving=control_pb2.Leaving()))

    async def stop(self) -> None:
        """End the stream; after `leave` control sees that this was meant."""
        if self._heartbeats is not None:
            self._heartbeats.cancel()
            await asyncio.gather(self._heartbeats, return_exceptions=True)
        if self._leaving:
            await self._link.finish(GOODBYE_SECONDS)
        else:
            await self._link.close()

    def _say_hello(self) -> _Request:
        self._outbox.clear()
        hello = control_pb2.JoinHello()
        hello.CopyFrom(self._hello)
        for limit_key, (held, failure) in self._held.items():
            hello.shares_held.add(limit_key=limit_key, held=held, failure=failure)
        if self._leaving:
            self._outbox.append(_Request(leaving=control_pb2.Leaving()))
        self._said = dict(self._held), self._leaving
        return _Request(hello=hello)

    def _catch_up(self) -> None:
        """Tell what changed while the hello was on its way out."""
        held, was_leaving = self._said
        for limit_key in {**held, **self._held}:
            now = self._held.get(limit_key, (0, ""))
            if now != held.get(limit_key, (0, "")):
                share = control_pb2.ShareHeld(limit_key=limit_key, held=now[0], failure=now[1])
                self._send(_Request(share_held=share))
        self._tell_progress()
        if self._leaving and not was_leaving:
            self._send(_Request(leaving=control_pb2.Leaving()))

    def _on_message(self, message: _Response) -> None:
        match message.WhichOneof("kind"):
            case "welcome":
                self.fleet_id = message.welcome.fleet_id
                self._heartbeat_seconds = max(0.05, message.welcome.heartbeat_interval_ms / 1_000)
                self._welcomed.set()
            case "share_target":
                self.on_share_target(message.share_target)
            case "source_lease":
                self.on_source_lease(message.source_lease)
            case "source_revoked":
                self.on_source_revoked(message.source_revoked)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            # At most one heartbeat waits: a stuck stream must not pile them up.
            if self._link.is_up and not self._outbox:
                self._send(_Request(heartbeat=control_pb2.Heartbeat()))

    def _send(self, message: _Request) -> None:
        self._outbox.append(message)
        self._link.wake()
