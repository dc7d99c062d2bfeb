"""The runtime hosts as a frontend sees them: one Invoke stream each; synchronous invocations are placed here."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from services.frontend.settings import FrontendSettings
from services.frontend.targets import Configuration
from services.policy.placement import choose_host, rank_hosts
from services.shared.channels import Peer
from services.shared.errors import TRY_ELSEWHERE, EvenflowError, Reason
from services.shared.streams import StreamLink

MAX_BATCH_INVOCATIONS = 500
MAX_BATCH_BYTES = 3_670_016
INVOCATION_OVERHEAD_BYTES = 8_192
RETRY_AFTER_MS = 1_000


@dataclass(slots=True, eq=False)
class Run:
    """One synchronous invocation and who waits for it. `avoided`: hosts that refused it."""

    invocation: runtime_pb2.Invocation
    outcome: "asyncio.Future[event_pb2.Outcome]"
    placed: bool = field(default=False)
    avoided: set[str] = field(default_factory=set)


class RuntimeHost:
    """The stream to one host, its credits and what runs there for us."""

    def __init__(
        self,
        member: resources_pb2.Member,
        peer: Peer,
        caller_id: str,
        incarnation: str,
        *,
        on_room: Callable[[], None],
        places_elsewhere: Callable[[Run], bool],
    ) -> None:
        """`places_elsewhere`: tried with a run that this host refused; True: another host has it."""
        self.host_id = member.node_id
        self.target = peer.target
        self.takes_new = True
        self.slots = 0
        self.credits = 0
        self.load = runtime_pb2.HostLoad()
        self._outbox: deque[Run] = deque()
        self._running: dict[int, Run] = {}
        self._last_id = 0
        self._on_room = on_room
        self._places_elsewhere = places_elsewhere
        stub = runtime_pb2_grpc.RuntimeServiceStub(peer.channel)
        self._link: StreamLink[runtime_pb2.InvokeRequest, runtime_pb2.InvokeResponse] = StreamLink(
            f"{self.host_id} invoke",
            dial=lambda: stub.Invoke(metadata=peer.metadata),
            hello=lambda: runtime_pb2.InvokeRequest(
                hello=runtime_pb2.InvokeHello(caller_id=caller_id, incarnation=incarnation)
            ),
            produce=self._produce,
            on_message=self._on_message,
            on_down=lambda _error: self._on_down(),
        )

    def start(self) -> None:
        """Keep the stream up."""
        self._link.start()

    async def close(self) -> None:
        """End the stream; runs that are under way are of unknown outcome."""
        await self._link.close()
        self._on_down()

    @property
    def has_room(self) -> bool:
        """Whether the host takes one more invocation now."""
        return self._link.is_up and self.takes_new and self.credits > 0

    @property
    def crowding(self) -> float:
        """Invocations there, whoever sent them, for each slot; what others have is known a moment late."""
        return max(len(self._running), self.load.busy + self.load.waiting) / max(1, self.slots)

    def send(self, run: Run) -> None:
        """Use one credit."""
        self.credits -= 1
        self._last_id += 1
        run.invocation.invocation_id = self._last_id
        run.placed = True
        self._running[self._last_id] = run
        self._outbox.append(run)
        self._link.wake()

    def _produce(self) -> runtime_pb2.InvokeRequest | None:
        batch: list[runtime_pb2.Invocation] = []
        size = 0
        while self._outbox and len(batch) < MAX_BATCH_INVOCATIONS:
            invocation = self._outbox[0].invocation
            if self._outbox[0].outcome.done():
                # The caller went away before it left: the credit is ours again.
                self._running.pop(invocation.invocation_id, None)
                self._outbox.popleft()
                self.credits += 1
                continue
            size += len(invocation.payload) + INVOCATION_OVERHEAD_BYTES
            if batch and size > MAX_BATCH_BYTES:
                break
            batch.append(invocation)
            self._outbox.popleft()
        if not batch:
            return None
        return runtime_pb2.InvokeRequest(batch=runtime_pb2.InvocationBatch(invocations=batch))

    def _on_message(self, message: runtime_pb2.InvokeResponse) -> None:
        for result in message.results:
            run = self._running.pop(result.invocation_id, None)
            if run is None or run.outcome.done():
                continue
            if result.outcome.refusal.reason in TRY_ELSEWHERE:
                run.avoided.add(self.host_id)
                if self._places_elsewhere(run):
                    continue
            run.outcome.set_result(result.outcome)
        if message.HasField("load"):
            self.load = message.load
        if message.credit_invocations:
            self.credits += message.credit_invocations
            self._on_room()

    def _on_down(self) -> None:
        self.credits = 0
        running, self._running = self._running, {}
        waiting = {run.invocation.invocation_id for run in self._outbox}
        self._outbox.clear()
        for invocation_id, run in running.items():
            if run.outcome.done():
                continue
            if invocation_id in waiting:
                what = "before the invocation was sent: it did not run"
            else:
                what = "while the invocation ran: it may have run, and is not run again by itself"
            run.outcome.set_exception(
                EvenflowError(
                    Reason.ERROR_REASON_INTERNAL, f"the connection to runtime host {self.host_id} broke {what}"
                )
            )


class RuntimeFleet:
    """Places synchronous invocations on hosts, and lets them wait for room for a bounded time."""

    def __init__(
        self,
        settings: FrontendSettings,
        configuration: Configuration,
        dial: Callable[[str], Peer],
        incarnation: str,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._dial = dial
        self._incarnation = incarnation
        self._hosts: dict[str, RuntimeHost] = {}
        self._waiting: deque[Run] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self.in_flight = 0

    def start(self) -> None:
        """Follow the fleet's members from now on."""
        self._configuration.subscribe(self._follow)
        self._follow()

    async def close(self) -> None:
        """End every stream."""
        await asyncio.gather(*(h.close() for h in self._hosts.values()), *self._closing, return_exceptions=True)
        self._hosts.clear()

    async def run(self, invocation: runtime_pb2.Invocation, timeout_ms: int) -> event_pb2.Outcome:
        """Run it once on one host. EvenflowError: NO_CAPACITY, INTERNAL when the host broke away, DEADLINE_EXCEEDED.

        `timeout_ms` is the function's own; the margin for a start comes on top. Cancelling gives up the wait.
        """
        if self.in_flight >= self._settings.max_pending_invocations:
            raise EvenflowError(
                Reason.ERROR_REASON_NO_CAPACITY,
                "this door runs as many invocations as it may: try again",
                RETRY_AFTER_MS,
            )
        loop = asyncio.get_running_loop()
        run = Run(invocation, loop.create_future())
        self.in_flight += 1
        unplaced = loop.call_later(self._settings.place_ms / 1_000, _give_up_placing, run)
        overdue = loop.call_later((timeout_ms + self._settings.run_margin_ms) / 1_000, _give_up_waiting, run)
        try:
            if self._waiting or not self._place(run):
                self._waiting.append(run)
            return await run.outcome
        finally:
            unplaced.cancel()
            overdue.cancel()
            self.in_flight -= 1
            run.outcome.cancel()
            if not run.placed:
                self._waiting.remove(run)

    def _place(self, run: Run) -> bool:
        rooms = {h.host_id: h for h in self._hosts.values() if h.has_room and h.host_id not in run.avoided}
        invocation = run.invocation
        ranked = rank_hosts(invocation.tenant_id, invocation.function_name, rooms)
        credits = {host_id: host.credits for host_id, host in rooms.items()}
        host_id = choose_host(ranked, credits, lambda host_id: rooms[host_id].crowding)
        if host_id is None:
            return False
        rooms[host_id].send(run)
        return True

    def _pump(self) -> None:
        while self._waiting:
            run = self._waiting[0]
            if run.outcome.done():
                run.placed = True
            elif not self._place(run):
                return
            self._waiting.popleft()

    def _follow(self) -> None:
        view = self._configuration.view
        members = {m.node_id: m for m in view.members_of(resources_pb2.NODE_ROLE_RUNTIME)}
        for host_id, host in list(self._hosts.items()):
            member = members.get(host_id)
            if member is None or member.address != host.target:
                del self._hosts[host_id]
                task = asyncio.create_task(host.close(), name=f"close {host_id}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for host_id, member in members.items():
            if host_id not in self._hosts:
                host = self._hosts[host_id] = RuntimeHost(
                    member,
                    self._dial(member.address),
                    self._settings.node_id,
                    self._incarnation,
                    on_room=self._pump,
                    places_elsewhere=self._place,
                )
                host.start()
            self._hosts[host_id].slots = member.slots
            self._hosts[host_id].takes_new = member.state != resources_pb2.MEMBER_STATE_LEAVING
        self._pump()


def _give_up_placing(run: Run) -> None:
    if not run.placed and not run.outcome.done():
        run.outcome.set_exception(
            EvenflowError(
                Reason.ERROR_REASON_NO_CAPACITY, "no runtime host has room now: nothing ran, try again", RETRY_AFTER_MS
            )
        )


def _give_up_waiting(run: Run) -> None:
    if not run.outcome.done():
        run.outcome.set_exception(
            EvenflowError(
                Reason.ERROR_REASON_DEADLINE_EXCEEDED,
                "the runtime host did not answer within the function's timeout and its margin",
            )
        )
