"""The way into the fleet for what a poller submits itself: records for destinations, events of sources.

One Publish stream to each frontend. Every submission carries a client token, so that sending it again is harmless:
when a stream breaks, its unanswered submissions go out again by another one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator

from evenflow.control.v1 import resources_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from services.shared.channels import Peer
from services.shared.clock import Clock
from services.shared.config_view import ConfigView
from services.shared.errors import EvenflowError, Reason
from services.shared.streams import StreamLink

MAX_BATCH_EVENTS = 1_000
MAX_BATCH_BYTES = 3_500_000
SUBMISSION_OVERHEAD_BYTES = 4_096
MAX_PAYLOAD_BYTES = 1_048_576
MAX_UNANSWERED_BATCHES = 4
# Beyond its time to be sent, how long an answer may take.
ANSWER_MS = 20_000.0
log = logging.getLogger(__name__)


class Submission:
    """One event on its way in; `done` gets None when it is durable, else the refusal; exactly once."""

    __slots__ = ("deadline_ms", "done", "event", "is_over")

    def __init__(
        self,
        event: frontend_pb2.EventSubmission,
        deadline_ms: float,
        done: Callable[[EvenflowError | None], None],
    ) -> None:
        self.event = event
        self.deadline_ms = deadline_ms
        self.done = done
        self.is_over = False

    def end(self, error: EvenflowError | None) -> None:
        """Tell the result, once."""
        if not self.is_over:
            self.is_over = True
            self.done(error)


class Door:
    """Submits events through whichever frontend is up."""

    def __init__(self, view: Callable[[], ConfigView], dial: Callable[[str], Peer], clock: Clock) -> None:
        self._view = view
        self._dial = dial
        self._clock = clock
        self._links: dict[str, _FrontendLink] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: deque[Submission] = deque()
        self._turn = 0

    def __iter__(self) -> Iterator["_FrontendLink"]:
        return iter(self._links.values())

    def submit(
        self,
        event: frontend_pb2.EventSubmission,
        within_ms: float,
        done: Callable[[EvenflowError | None], None],
    ) -> None:
        """Send an event with a client token. `done` may be called before this returns; UNAVAILABLE: not sent in time.

        Callers bound how many they have under way.
        """
        submission = Submission(event, self._clock.monotonic_ms() + within_ms, done)
        if len(event.payload) > MAX_PAYLOAD_BYTES:
            submission.end(
                EvenflowError(
                    Reason.ERROR_REASON_REQUEST_TOO_LARGE,
                    f"{len(event.payload)} bytes are too many for an asynchronous event: at most {MAX_PAYLOAD_BYTES}",
                )
            )
            return
        self._waiting.append(submission)
        self._wake()

    def tick(self, now_ms: float) -> None:
        """End what waited too long."""
        if self._waiting:
            overdue = [s for s in self._waiting if s.deadline_ms <= now_ms]
            if overdue:
                self._waiting = deque(s for s in self._waiting if s.deadline_ms > now_ms)
                for submission in overdue:
                    submission.end(_unavailable("no door is reachable now"))
        for link in self:
            link.tick(now_ms)

    def follow(self) -> None:
        """Open and close streams as the members say."""
        leaving = resources_pb2.MEMBER_STATE_LEAVING
        members = {m.node_id: m for m in self._view().members_of(resources_pb2.NODE_ROLE_FRONTEND)}
        for node_id, link in list(self._links.items()):
            member = members.get(node_id)
            if member is None or member.address != link.target:
                del self._links[node_id]
                task = asyncio.create_task(link.close(), name=f"close {node_id}")
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        for node_id, member in members.items():
            if node_id not in self._links:
                link = self._links[node_id] = _FrontendLink(node_id, self._dial(member.address), self)
                link.start()
            self._links[node_id].takes_new = member.state != leaving
        self._wake()

    async def close(self) -> None:
        """End every stream; what is unanswered ends as unavailable."""
        await asyncio.gather(*(link.close() for link in self._links.values()), *self._closing, return_exceptions=True)
        self._links.clear()
        while self._waiting:
            self._waiting.popleft().end(_unavailable("this poller stops"))

    def take_batch(self) -> list[Submission]:
        """What one stream may send now, within the bounds of a batch."""
        batch: list[Submission] = []
        size = 0
        while self._waiting and len(batch) < MAX_BATCH_EVENTS:
            submission = self._waiting[0]
            if not submission.is_over:
                size += len(submission.event.payload) + SUBMISSION_OVERHEAD_BYTES
                if batch and size > MAX_BATCH_BYTES:
                    break
                batch.append(submission)
            self._waiting.popleft()
        return batch

    def give_back(self, submissions: list[Submission]) -> None:
        """A stream broke before these were answered: send them again."""
        self._waiting.extendleft(reversed(submissions))
        self._wake()

    def _wake(self) -> None:
        if not self._waiting:
            return
        ready = [link for link in self if link.has_room]
        if ready:
            # One at a time: whoever is woken takes all that waits, as one batch.
            self._turn += 1
            ready[self._turn % len(ready)].wake()


class _FrontendLink:
    def __init__(self, node_id: str, peer: Peer, door: Door) -> None:
        self.target = peer.target
        self.takes_new = True
        self._door = door
        self._sent: dict[int, list[Submission]] = {}
        self._batch_id = 0
        stub = frontend_pb2_grpc.FrontendServiceStub(peer.channel)
        self._link: StreamLink[frontend_pb2.PublishRequest, frontend_pb2.PublishResponse] = StreamLink(
            f"{node_id} publish",
            dial=lambda: stub.Publish(metadata=peer.metadata),
            produce=self._produce,
            on_message=self._on_message,
            on_down=lambda _error: self._on_down(),
        )

    def start(self) -> None:
        self._link.start()

    def wake(self) -> None:
        self._link.wake()

    async def close(self) -> None:
        self.takes_new = False
        await self._link.close()
        self._on_down()

    @property
    def has_room(self) -> bool:
        return self._link.is_up and self.takes_new and len(self._sent) < MAX_UNANSWERED_BATCHES

    def tick(self, now_ms: float) -> None:
        for batch in self._sent.values():
            for submission in batch:
                if not submission.is_over and submission.deadline_ms + ANSWER_MS <= now_ms:
                    submission.end(_unavailable("the door did not answer"))

    def _produce(self) -> frontend_pb2.PublishRequest | None:
        if not self.has_room:
            return None
        batch = self._door.take_batch()
        if not batch:
            return None
        self._batch_id += 1
        self._sent[self._batch_id] = batch
        return frontend_pb2.PublishRequest(batch_id=self._batch_id, events=[s.event for s in batch])

    def _on_message(self, message: frontend_pb2.PublishResponse) -> None:
        batch = self._sent.pop(message.batch_id, None)
        if batch is None:
            return
        for index, submission in enumerate(batch):
            if index >= len(message.results):
                submission.end(EvenflowError(Reason.ERROR_REASON_INTERNAL, "the door left the submission out"))
                continue
            result = message.results[index]
            submission.end(EvenflowError.from_detail(result.error) if result.HasField("error") else None)
        self._link.wake()

    def _on_down(self) -> None:
        unanswered = [s for batch in self._sent.values() for s in batch if not s.is_over]
        self._sent.clear()
        if unanswered:
            self._door.give_back(unanswered)


def _unavailable(what: str) -> EvenflowError:
    return EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, f"{what}: the event was not submitted")
