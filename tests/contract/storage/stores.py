"""The stores that the suite holds, by name: another engine is one more line here."""

from collections.abc import Callable

from services.shared.clock import FakeClock
from tests.contract.messages import SHARD
from tests.contract.storage.sqlite_shard import SqliteShard
from tests.kit.memory_shard import MemoryShard
from tests.kit.shard_store import Bounds, ShardStore


class TimedMemoryShard(MemoryShard):
    """The one in memory, with the clock that the suite moves."""

    def __init__(self, bounds: Bounds, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        super().__init__(SHARD, self.clock, bounds)


STORES: dict[str, Callable[[Bounds], ShardStore]] = {"sqlite": SqliteShard, "memory": TimedMemoryShard}
