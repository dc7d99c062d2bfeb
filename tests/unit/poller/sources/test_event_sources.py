"""What the owner of sources does on every tick, however many there are."""

from collections.abc import Callable

from evenflow.control.v1 import resources_pb2

from services.poller.sources.event_sources import EventSources
from services.poller.sources.running import Ownership, RunningSource
from services.shared.clock import FakeClock
from services.shared.config_view import ConfigView


class Asking:
    """A kind that keeps what it is given with a tick."""

    name = "asking"

    def __init__(self) -> None:
        self.kept_ids: list[Callable[[], set[str]]] = []

    def wants(self, source: resources_pb2.EventSource) -> bool:
        return False

    def begin(self, ownership: Ownership) -> RunningSource:
        raise NotImplementedError

    def tick(self, kept_ids: Callable[[], set[str]], revision: int, *, is_quiet: bool) -> None:
        self.kept_ids.append(kept_ids)

    def halt(self) -> None: ...

    async def stop(self) -> None: ...


class CountedSources(dict[str, resources_pb2.EventSource]):
    walked = 0

    def __iter__(self):  # type: ignore[no-untyped-def]
        self.walked += 1
        return super().__iter__()


def test_no_tick_walks_through_the_sources_of_the_fleet() -> None:
    """Only who asks for them does, such as journals after a change."""
    view, kind = ConfigView(), Asking()
    view.sources = sources = CountedSources({"a": resources_pb2.EventSource(source_id="a")})
    owner = EventSources([kind], view=lambda: view, clock=FakeClock())
    owner._tick_once()
    assert sources.walked == 0
    assert kind.kept_ids[-1]() == {"a"} and sources.walked == 1
