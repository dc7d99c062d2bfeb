"""The Join streams: what waits to be sent to each node, and when it was heard last."""

from collections import deque
from collections.abc import Callable

from evenflow.control.v1 import control_pb2

from services.shared.errors import EvenflowError, Reason
from services.shared.streams import Wakeup

# A node that does not read its stream for so many messages is cut; it joins again and is told afresh.
MAX_OUTBOX_MESSAGES = 50_000


class Session:
    """One Join stream of one incarnation of a node."""

    def __init__(self, node_id: str, incarnation: str, now_ms: float) -> None:
        self.node_id = node_id
        self.incarnation = incarnation
        self.heard_ms = now_ms
        self.is_leaving = False
        self.ending: EvenflowError | None = None
        self.wakeup = Wakeup()
        self._outbox: deque[control_pb2.JoinResponse] = deque()

    def send(self, message: control_pb2.JoinResponse) -> None:
        """Queue a message; order is kept."""
        if self.ending is None:
            self._outbox.append(message)
            if len(self._outbox) > MAX_OUTBOX_MESSAGES:
                self.end(EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "the node does not read: join again"))
            self.wakeup.set()

    def end(self, error: EvenflowError) -> None:
        """End the stream from this side."""
        self.ending = self.ending or error
        self._outbox.clear()
        self.wakeup.set()

    def produce(self) -> control_pb2.JoinResponse | None:
        """The next message to send, if there is one. EvenflowError: the stream was ended."""
        if self.ending is not None:
            raise self.ending
        return self._outbox.popleft() if self._outbox else None


class Sessions:
    """The current stream of each node; a node that is not here is out of touch."""

    def __init__(self) -> None:
        self._by_node: dict[str, Session] = {}

    def put(self, session: Session) -> None:
        """A stream that was taken in; the one before it, if there is one, is over."""
        before = self._by_node.get(session.node_id)
        if before is not None:
            text = f"another stream of {session.node_id} took the place of this one"
            before.end(EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, text))
        self._by_node[session.node_id] = session

    def drop(self, session: Session) -> bool:
        """A stream ended; False when it was not the current one any more."""
        if self._by_node.get(session.node_id) is not session:
            return False
        del self._by_node[session.node_id]
        return True

    def get(self, node_id: str) -> Session | None:
        """The node's stream."""
        return self._by_node.get(node_id)

    def of(self, node_id: str, incarnation: str) -> Session | None:
        """The stream of exactly this incarnation."""
        session = self._by_node.get(node_id)
        return session if session is not None and session.incarnation == incarnation else None

    def is_current(self, session: Session) -> bool:
        """Whether the node speaks through this stream."""
        return self._by_node.get(session.node_id) is session and session.ending is None

    def all(self) -> list[Session]:
        """Every current stream."""
        return list(self._by_node.values())

    def end_all(self, error: Callable[[], EvenflowError]) -> None:
        """End every stream from this side."""
        for session in self._by_node.values():
            session.end(error())
