"""Fair order of dequeue: deficit round robin over tenants, and inside each tenant over its lanes. Pure.

Each turn of a tenant is worth `quantum` events, and so is each turn of a lane inside it. A lane that has less, or
may not give more, loses the rest of its turn: credit is never saved up (Shreedhar and Varghese, 1996). What a turn has
left over because the taker wanted no more is kept for the next call.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

LaneT = TypeVar("LaneT", bound=Hashable)
# Events a turn: small, so that with few free slots a flooding tenant delays another's event by few of its own.
QUANTUM = 4


class _Tenant(Generic[LaneT]):
    __slots__ = ("deficit", "fruitless", "lanes")

    def __init__(self) -> None:
        self.deficit = 0
        # Lanes in a row that gave nothing in this turn.
        self.fruitless = 0
        self.lanes: OrderedDict[LaneT, int] = OrderedDict()


class FairOrder(Generic[LaneT]):
    """The lanes that have something to give, in the order in which they may."""

    def __init__(self, quantum: int = QUANTUM) -> None:
        if quantum < 1:
            raise ValueError("a turn is worth at least one event")
        self._quantum = quantum
        self._tenants: OrderedDict[str, _Tenant[LaneT]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Lanes in the order."""
        return self._count

    def add(self, tenant_id: str, lane: LaneT) -> None:
        """A lane has something: it goes last. No effect when it is there already."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None:
            tenant = self._tenants[tenant_id] = _Tenant()
        if lane not in tenant.lanes:
            tenant.lanes[lane] = 0
            self._count += 1

    def discard(self, tenant_id: str, lane: LaneT) -> None:
        """A lane has nothing any more. No effect when it is not there."""
        tenant = self._tenants.get(tenant_id)
        if tenant is None or tenant.lanes.pop(lane, None) is None:
            return
        self._count -= 1
        if not tenant.lanes:
            del self._tenants[tenant_id]

    def take(self, wanted: int, take_from: Callable[[LaneT, int], int]) -> int:
        """Hand out up to `wanted` events in fair order; returns how many.

        `take_from(lane, offer)` takes 0 to `offer` events from the lane and says how many; fewer means that the lane
        is empty or blocked. It may discard that lane, and no other.
        """
        taken = 0
        idle = 0
        while taken < wanted and idle < self._count:
            tenant_id, tenant = next(iter(self._tenants.items()))
            lane, lane_deficit = next(iter(tenant.lanes.items()))
            if tenant.deficit <= 0:
                tenant.deficit = self._quantum
            if lane_deficit <= 0:
                lane_deficit = self._quantum
            alone = self._count == 1
            offer = wanted - taken if alone else min(wanted - taken, tenant.deficit, lane_deficit)
            got = take_from(lane, offer)
            taken += got
            if got:
                idle = 0
            elif lane in tenant.lanes:
                # One that was discarded counts no more, so it is none of those that may still be asked.
                idle += 1
            if not alone:
                tenant.deficit -= got
                self._end_visit(tenant_id, tenant, lane, lane_deficit - got if got == offer else 0, got)
        return taken

    def _end_visit(self, tenant_id: str, tenant: _Tenant[LaneT], lane: LaneT, left: int, got: int) -> None:
        if lane in tenant.lanes:
            tenant.lanes[lane] = left
            if left <= 0:
                tenant.lanes.move_to_end(lane)
        tenant.fruitless = 0 if got else tenant.fruitless + 1
        if tenant_id not in self._tenants:
            return
        if tenant.deficit <= 0 or tenant.fruitless >= len(tenant.lanes):
            tenant.deficit = 0
            tenant.fruitless = 0
            self._tenants.move_to_end(tenant_id)
