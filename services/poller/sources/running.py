"""What the sources of every kind have in common, for their owner to run them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from evenflow.control.v1 import resources_pb2


@dataclass(frozen=True, slots=True)
class Ownership:
    """A source that this poller is to run now. `remaining_ms`: how long the lease still holds; 0 or less: it ended."""

    source: resources_pb2.EventSource
    fleet: resources_pb2.Fleet
    # Of the view that has the source.
    revision: int
    epoch: int
    remaining_ms: Callable[[], float]
    # How far the owners before came, see SourceProgress, and whom to tell how far this one does.
    done_until_ms: int = 0
    report_done: Callable[[int], None] = lambda _done_until_ms: None


class RunningSource(Protocol):
    """One source while this poller owns it. It lives on the loop; blocking work is done by threads."""

    @property
    def source(self) -> resources_pb2.EventSource:
        """As it was when it began."""
        ...

    @property
    def submitted_total(self) -> int:
        """What it made since this poller owns it."""
        ...

    @property
    def last_error(self) -> str:
        """Why the last try failed; empty: it did not."""
        ...

    @property
    def is_failed(self) -> bool:
        """Whether it has to begin anew."""
        ...

    @property
    def is_over(self) -> bool:
        """After `retire`: whether everything under way has ended."""
        ...

    def renew(self, epoch: int, done_until_ms: int) -> None:
        """The lease began again: somebody else may have had the source in between."""
        ...

    def step(self) -> None:
        """Do what can be done now; called often, also after `retire`."""
        ...

    def retire(self) -> None:
        """Take up nothing more; what is under way may end."""
        ...

    async def close(self) -> None:
        """End what is left."""
        ...


class SourceKind(Protocol):
    """Runs sources of one kind."""

    @property
    def name(self) -> str:
        """As descriptions call it."""
        ...

    def wants(self, source: resources_pb2.EventSource) -> bool:
        """Whether this source is of the kind, and makes something."""
        ...

    def begin(self, ownership: Ownership) -> RunningSource:
        """Run it. Call it on the running loop. EvenflowError, ValueError: it cannot run as it is."""
        ...

    def tick(self, kept_ids: Callable[[], set[str]], revision: int, *, is_quiet: bool) -> None:
        """Time passed; called often. `kept_ids` gathers the sources that exist or run, which takes time with many.

        `is_quiet`: none is being closed.
        """
        ...

    def halt(self) -> None:
        """The process ends: what may take long gives up."""
        ...

    async def stop(self) -> None:
        """All sources are closed; call it once."""
        ...
