"""Who waits in a shard, and who is next: in the order of arrival, or in the queue service's own fair order."""

from collections import deque
from typing import NamedTuple, Protocol

from services.policy.fair import FairOrder

ORDERS = ("fifo", "fair")


class Waiting(NamedTuple):
    """One event in a shard. arrived: virtual time; counted: it came after the warm-up."""

    arrived: float
    tenant: int
    counted: bool


class Line(Protocol):
    """The events of one shard that do not run yet."""

    def append(self, one: Waiting) -> None:
        """It came."""
        ...

    def popleft(self) -> Waiting:
        """The next one to run. IndexError: nobody waits."""
        ...

    def __len__(self) -> int:
        """Events that wait."""
        ...


class FairLine:
    """One lane a tenant, taken from as services.policy.fair.FairOrder says."""

    def __init__(self) -> None:
        self._order: FairOrder[int] = FairOrder()
        self._lanes: dict[int, deque[Waiting]] = {}
        self._count = 0

    def __len__(self) -> int:
        """See Line."""
        return self._count

    def append(self, one: Waiting) -> None:
        """See Line."""
        lane = self._lanes.get(one.tenant)
        if lane is None:
            lane = self._lanes[one.tenant] = deque()
            self._order.add(str(one.tenant), one.tenant)
        lane.append(one)
        self._count += 1

    def popleft(self) -> Waiting:
        """See Line."""
        taken: list[Waiting] = []

        def take_from(tenant: int, offer: int) -> int:
            lane = self._lanes[tenant]
            taken.append(lane.popleft())
            if not lane:
                del self._lanes[tenant]
                self._order.discard(str(tenant), tenant)
            return 1

        self._order.take(1, take_from)
        if not taken:
            raise IndexError("nobody waits")
        self._count -= 1
        return taken[0]


def make(order: str) -> Line:
    """An empty line. ValueError: no such order."""
    match order:
        case "fifo":
            return deque[Waiting]()
        case "fair":
            return FairLine()
    raise ValueError(f"{order!r} is no order of dequeue: {', '.join(ORDERS)}")
