"""Followers of the configuration: a snapshot in parts, then each change, with a bounded backlog for each follower."""

import asyncio
from collections import deque
from collections.abc import Iterator

from evenflow.control.v1 import control_pb2, resources_pb2

from services.control.state import State
from services.shared.errors import EvenflowError, Reason
from services.shared.streams import Wakeup

# Below gRPC's common limit of 4 MB, with room for the envelope.
MAX_PART_BYTES = 3_670_016
# Tag and length in front of each resource of a part.
ENVELOPE_BYTES = 8
MAX_BACKLOG_BYTES = 64 << 20


class Follower:
    """One Watch stream."""

    def __init__(self, node_id: str, state: State, max_changes: int) -> None:
        self.node_id = node_id
        self.wakeup = Wakeup()
        self.was_cut = asyncio.Event()
        # The state at one instant: resources are replaced, never changed, so references are enough.
        self._snapshot: Iterator[control_pb2.WatchResponse] | None = snapshot_parts(
            state.revision, list(state.resources.values())
        )
        self._backlog: deque[control_pb2.WatchResponse] = deque()
        self._backlog_bytes = 0
        self._max_changes = max_changes

    def add(self, change: control_pb2.WatchResponse, size_bytes: int) -> None:
        """A change for this follower; one that is too far behind is cut."""
        if self.was_cut.is_set():
            return
        self._backlog.append(change)
        self._backlog_bytes += size_bytes
        if len(self._backlog) > self._max_changes or self._backlog_bytes > MAX_BACKLOG_BYTES:
            self._snapshot = None
            self._backlog.clear()
            self.was_cut.set()
        self.wakeup.set()

    def next_message(self) -> control_pb2.WatchResponse | None:
        """What to send now; None: nothing."""
        if self._snapshot is not None:
            part = next(self._snapshot, None)
            if part is not None:
                return part
            self._snapshot = None
        if not self._backlog:
            return None
        change = self._backlog.popleft()
        self._backlog_bytes -= change.ByteSize()
        return change


class Feed:
    """All followers."""

    def __init__(self, state: State, max_followers: int, max_backlog: int) -> None:
        self.followers: set[Follower] = set()
        self.cut_total = 0
        self._state = state
        self._max_followers = max_followers
        self._max_backlog = max_backlog

    def publish(self, change: control_pb2.WatchResponse) -> None:
        """Hand a committed change to every follower; it is small: a function with its sources, or a few members."""
        size_bytes = change.ByteSize()
        for follower in self.followers:
            follower.add(change, size_bytes)

    def join(self, node_id: str) -> Follower:
        """A new follower. EvenflowError NO_CAPACITY: there are too many."""
        if len(self.followers) >= self._max_followers:
            raise EvenflowError(
                Reason.ERROR_REASON_NO_CAPACITY,
                f"control has {self._max_followers} followers, the most it takes (control.max_followers)",
                retry_after_ms=1_000,
            )
        follower = Follower(node_id, self._state, self._max_backlog)
        self.followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """The stream ended."""
        self.followers.discard(follower)
        self.cut_total += follower.was_cut.is_set()


def snapshot_parts(revision: int, resources: list[resources_pb2.Resource]) -> Iterator[control_pb2.WatchResponse]:
    """The snapshot as messages of bounded size, made one at a time; the last says that it is complete."""
    part = control_pb2.WatchResponse(revision=revision, in_snapshot=True)
    size_bytes = 0
    for resource in resources:
        resource_bytes = resource.ByteSize() + ENVELOPE_BYTES
        if size_bytes and size_bytes + resource_bytes > MAX_PART_BYTES:
            yield part
            part = control_pb2.WatchResponse(revision=revision, in_snapshot=True)
            size_bytes = 0
        part.upserts.append(resource)
        size_bytes += resource_bytes
    part.snapshot_complete = True
    yield part
