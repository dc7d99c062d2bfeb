"""One runtime host as a poller sees it: the Invoke stream, its credits and what runs there for this poller."""

from collections import deque
from typing import Protocol

from evenflow.common.v1 import event_pb2
from evenflow.control.v1 import resources_pb2
from evenflow.runtime.v1 import runtime_pb2, runtime_pb2_grpc

from services.policy.arns import LATEST
from services.poller.functions import Plan
from services.poller.held import Held, Stage
from services.shared.channels import Peer
from services.shared.streams import StreamLink, queue_gap_ms

MAX_BATCH_INVOCATIONS = 500
MAX_BATCH_BYTES = 3_500_000
INVOCATION_OVERHEAD_BYTES = 1_024


class RunOwner(Protocol):
    """Who gave the invocations."""

    def ended(self, held: Held, plan: Plan, outcome: event_pb2.Outcome) -> None:
        """A run has its outcome."""
        ...

    def unsent(self, held: Held, plan: Plan) -> None:
        """The invocation never left: nothing ran."""
        ...

    def lost(self, held: Held, plan: Plan, host_id: str) -> None:
        """The host broke away, or said nothing for too long: the run's outcome is not known."""
        ...

    def host_has_room(self) -> None:
        """A host granted credits, or said how busy it is."""
        ...


class RuntimeHost:
    """The stream to one host."""

    def __init__(
        self,
        member: resources_pb2.Member,
        peer: Peer,
        *,
        caller_id: str,
        incarnation: str,
        credits: dict[str, int],
        max_wait_ms: int,
        owner: RunOwner,
    ) -> None:
        self.host_id = member.node_id
        self.target = peer.target
        self.running: dict[int, tuple[Held, Plan]] = {}
        self._takes_new = True
        self._is_closed = False
        self._granted = 0
        # Host id -> invocations that may be placed there now; shared by all hosts, each keeps its own entry.
        self._credits = credits
        self._max_wait_ms = max_wait_ms
        self._outbox: deque[Held] = deque()
        self._last_id = 0
        self._owner = owner
        # As the host last told: what runs there, and what waits for a sandbox, of all its callers.
        self.busy = self.waiting = 0
        credits[self.host_id] = 0
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
            gap_ms=lambda request: queue_gap_ms(len(request.batch.invocations)),
        )

    def start(self) -> None:
        """Keep the stream up."""
        self._link.start()

    def retire(self) -> None:
        """Place nothing here from now on: the shared entry may be that of a successor at another address."""
        self._credits.pop(self.host_id, None)
        self._is_closed = True

    async def close(self) -> None:
        """End the stream; what runs there is of unknown outcome."""
        await self._link.close()
        self._on_down()

    @property
    def room(self) -> int:
        """Invocations that the host takes or runs for this poller."""
        return self._credits.get(self.host_id, 0) + len(self.running)

    @property
    def takes_new(self) -> bool:
        """Whether runs may be sent there, credits aside."""
        return self._takes_new

    def set_takes_new(self, takes_new: bool) -> None:
        """Whether invocations may be placed here; a leaving host ends what it has."""
        self._takes_new = takes_new
        self._publish()

    def send(self, held: Held, plan: Plan) -> None:
        """Place an invocation here: uses one credit."""
        self._granted -= 1
        self._credits[self.host_id] -= 1
        self._last_id += 1
        held.invocation_id = self._last_id
        self.running[self._last_id] = (held, plan)
        self._outbox.append(held)
        self._link.wake()

    def give_up(self, invocation_id: int) -> None:
        """The outcome took too long: if it comes yet, it is passed over."""
        found = self.running.pop(invocation_id, None)
        if found is not None:
            self._owner.lost(*found, self.host_id)

    def _produce(self) -> runtime_pb2.InvokeRequest | None:
        if not self._outbox:
            return None
        request = runtime_pb2.InvokeRequest()
        batch = request.batch.invocations
        size = 0
        while self._outbox and len(batch) < MAX_BATCH_INVOCATIONS:
            held = self._outbox[0]
            event = held.event
            if held.stage is Stage.OVER:
                # Its lease is gone, and nothing has run yet: somebody else runs it.
                self._outbox.popleft()
                found = self.running.pop(held.invocation_id, None)
                self._granted += 1
                self._publish()
                if found is not None:
                    self._owner.unsent(*found)
                continue
            size += len(event.payload) + INVOCATION_OVERHEAD_BYTES
            if len(batch) and size > MAX_BATCH_BYTES:
                break
            self._outbox.popleft()
            if held.invocation_id not in self.running:
                # Given up before it left.
                self._granted += 1
                self._publish()
                continue
            plan = self.running[held.invocation_id][1]
            batch.add(
                invocation_id=held.invocation_id,
                tenant_id=event.tenant_id,
                function_name=event.function_name,
                version=held.version.number if held.version is not None else LATEST,
                function_revision=plan.function.revision,
                request_id=event.request_id,
                payload=event.payload,
                trace=held.trace,
                attempt=held.attempt,
                kind=runtime_pb2.INVOCATION_KIND_ASYNC,
                invoked_function_arn=plan.arn,
                max_wait_ms=self._max_wait_ms,
                lineage=event.lineage if event.HasField("lineage") else None,
            )
        return request if len(batch) else None

    def _on_message(self, message: runtime_pb2.InvokeResponse) -> None:
        if message.HasField("load"):
            self.busy, self.waiting = message.load.busy, message.load.waiting
        # Credits first: what ends now makes room for what waits.
        if message.credit_invocations:
            self._granted += message.credit_invocations
            self._publish()
        for result in message.results:
            found = self.running.pop(result.invocation_id, None)
            if found is not None:
                self._owner.ended(*found, result.outcome)
        self._owner.host_has_room()

    def _on_down(self) -> None:
        self._granted = 0
        self.busy = self.waiting = 0
        self._publish()
        running, self.running = self.running, {}
        unsent = {held.invocation_id for held in self._outbox}
        self._outbox.clear()
        for invocation_id, (held, plan) in running.items():
            if invocation_id in unsent:
                self._owner.unsent(held, plan)
            else:
                self._owner.lost(held, plan, self.host_id)
        self._owner.host_has_room()

    def _publish(self) -> None:
        if self._is_closed:
            return
        self._credits[self.host_id] = max(0, self._granted) if self._takes_new else 0
