"""What the rounds ask of every peer."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from loadtest.bench.meter import Rate
from loadtest.bench.tick_reader import TickReader

PAYLOAD_BYTES = 200
# As JSON, with its quotes, and as Evenflow's payload: the same bytes for all.
PAYLOAD_TEXT = "x" * (PAYLOAD_BYTES - 2)
IN_FLIGHT = 64
WARM_UP_EVENTS = 200


class Peer(Protocol):
    """One queue with its workers."""

    # In results; and for people.
    key: str
    name: str
    # How it is run and submitted to, in words.
    how: str
    # Whether an event is on disk before its submit is answered.
    is_durable: bool
    # Whether it submits ahead of the answers, as Evenflow's batches do: it is given as many events.
    is_pipelined: bool
    ticks: TickReader

    async def start(self) -> None:
        """Its server, if it has one."""
        ...

    async def stop(self) -> None:
        """End everything."""
        ...

    async def accept(self, events: int) -> Rate:
        """Submit so many while no worker runs; what was submitted is thrown away."""
        ...

    def working(self) -> AbstractAsyncContextManager[None]:
        """Workers up and warm."""
        ...

    async def end_to_end(self, events: int) -> Rate:
        """While working: from the first submit until every handler ran and was acknowledged."""
        ...

    async def submit_one(self) -> None:
        """While working: one event."""
        ...
