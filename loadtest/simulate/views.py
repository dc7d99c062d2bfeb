"""What frontends know of the depths while nothing leaves the shards, by how old it is; ages are counted in events."""

from collections import deque
from typing import Protocol

from services.policy.shard_choice import Depths

KINDS = ("delayed", "board")


class Views(Protocol):
    """One Depths a frontend, kept as told."""

    known: list[Depths]

    def placed(self, frontend: int, shard_id: int) -> None:
        """This frontend sent one event to this shard."""
        ...


class Delayed:
    """One frontend that does not count its own sends: every depth is exactly `stale_events` old; 0: fresh."""

    def __init__(self, shards: int, stale_events: int) -> None:
        self.known = [Depths(shards)]
        self._told = [0] * shards
        self._untold: deque[int] = deque()
        self._stale_events = stale_events

    def placed(self, frontend: int, shard_id: int) -> None:
        """See Views."""
        if self._stale_events:
            self._untold.append(shard_id)
            if len(self._untold) <= self._stale_events:
                return
            shard_id = self._untold.popleft()
        self._told[shard_id] += 1
        self.known[0].report(shard_id, self._told[shard_id])


class Board:
    """One frontend that does not count its own sends: all depths are told anew every `stale_events` events."""

    def __init__(self, shards: int, stale_events: int) -> None:
        self.known = [Depths(shards)]
        self._depths = [0] * shards
        self._stale_events = max(1, stale_events)
        self._since = 0

    def placed(self, frontend: int, shard_id: int) -> None:
        """See Views."""
        self._depths[shard_id] += 1
        self._since += 1
        if self._stale_events == 1:
            self.known[0].report(shard_id, self._depths[shard_id])
        elif self._since >= self._stale_events:
            self._since = 0
            for told, depth in enumerate(self._depths):
                self.known[0].report(told, depth)


class OwnSends:
    """Frontends as they are: own sends are known at once, everybody's when they are `stale_events` old."""

    def __init__(self, shards: int, frontends: int, stale_events: int) -> None:
        self.known = [Depths(shards) for _ in range(frontends)]
        self._told = [0] * shards
        self._untold: deque[tuple[int, int]] = deque()
        self._stale_events = stale_events

    def placed(self, frontend: int, shard_id: int) -> None:
        """See Views."""
        self.known[frontend].sent(shard_id)
        self._untold.append((frontend, shard_id))
        if len(self._untold) <= self._stale_events:
            return
        sender, told = self._untold.popleft()
        self._told[told] += 1
        self.known[sender].answered(told, 1)
        for one in self.known:
            one.report(told, self._told[told])


def make(kind: str, shards: int, stale_events: int) -> Views:
    """The view of one frontend that does not count its own sends. ValueError: no such kind."""
    match kind:
        case "delayed":
            return Delayed(shards, stale_events)
        case "board":
            return Board(shards, stale_events)
    raise ValueError(f"{kind!r} is no kind of stale depths: {', '.join(KINDS)}")
