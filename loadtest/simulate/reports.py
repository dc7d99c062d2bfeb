"""How frontends learn of depths while shards fill and empty; ages are in virtual time."""

from collections import deque
from typing import Protocol

from loadtest.simulate.event_loop import EventLoop
from services.policy.shard_choice import Depths

KINDS = ("delayed", "board", "own_sends")


class Reports(Protocol):
    """One Depths a frontend, kept as told. It is called after the depth has changed."""

    known: list[Depths]

    def before_choice(self) -> None:
        """A frontend is about to choose: what it could know by now is told."""
        ...

    def sent(self, frontend: int, shard_id: int) -> None:
        """The frontend sent an event there."""
        ...

    def left(self, shard_id: int) -> None:
        """An event left the shard."""
        ...


class Delayed:
    """Every frontend sees every depth just as it was `age` ago, own sends included; age 0: as it is."""

    def __init__(self, loop: EventLoop, depths: list[int], frontends: int, age: float) -> None:
        # All know the same, so they share it.
        self.known = [Depths(len(depths))] * frontends
        self._loop, self._depths, self._age = loop, depths, age
        self._untold: deque[tuple[float, int, int]] = deque()

    def before_choice(self) -> None:
        """See Reports."""
        untold, told = self._untold, self._loop.now - self._age
        while untold and untold[0][0] <= told:
            _, shard_id, depth = untold.popleft()
            self.known[0].report(shard_id, depth)

    def sent(self, frontend: int, shard_id: int) -> None:
        """See Reports."""
        self.left(shard_id)

    def left(self, shard_id: int) -> None:
        """See Reports."""
        if self._age:
            self._untold.append((self._loop.now, shard_id, self._depths[shard_id]))
        else:
            self.known[0].report(shard_id, self._depths[shard_id])


class Board:
    """Every frontend sees all depths as they were when the board was written last, every `age` anew."""

    def __init__(self, loop: EventLoop, depths: list[int], frontends: int, age: float) -> None:
        self.known = [Depths(len(depths))] * frontends
        self._depths = depths
        loop.every(age, self._write)

    def _write(self, _: None) -> None:
        for shard_id, depth in enumerate(self._depths):
            self.known[0].report(shard_id, depth)

    def before_choice(self) -> None:
        """See Reports."""

    def sent(self, frontend: int, shard_id: int) -> None:
        """See Reports."""

    def left(self, shard_id: int) -> None:
        """See Reports."""


class OwnSends:
    """Frontends as they are: each shard tells each its depth every `age`, not all at once, and each adds its own sends.

    A send counts until the shard's next report, which has it in.
    """

    def __init__(self, loop: EventLoop, depths: list[int], frontends: int, age: float) -> None:
        shards = len(depths)
        self.known = [Depths(shards) for _ in range(frontends)]
        self._depths = depths
        self._sent = [[0] * shards for _ in range(frontends)]
        for place in range(frontends * shards):
            loop.every(age, self._tell, divmod(place, shards), first=age * place / (frontends * shards))

    def _tell(self, pair: tuple[int, int]) -> None:
        frontend, shard_id = pair
        self.known[frontend].answered(shard_id, self._sent[frontend][shard_id], self._depths[shard_id])
        self._sent[frontend][shard_id] = 0

    def before_choice(self) -> None:
        """See Reports."""

    def sent(self, frontend: int, shard_id: int) -> None:
        """See Reports."""
        self.known[frontend].sent(shard_id)
        self._sent[frontend][shard_id] += 1

    def left(self, shard_id: int) -> None:
        """See Reports."""


def make(kind: str, loop: EventLoop, depths: list[int], frontends: int, age: float) -> Reports:
    """Reports on these depths, which the caller keeps up to date. Age 0: fresh, whatever the kind.

    ValueError: no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of stale depths: {', '.join(KINDS)}")
    if age <= 0 or kind == "delayed":
        return Delayed(loop, depths, frontends, max(0.0, age))
    made = Board if kind == "board" else OwnSends
    return made(loop, depths, frontends, age)
