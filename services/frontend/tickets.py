"""What a door holds while its events become durable: one ticket a request, whatever number of events it has."""

from collections.abc import Callable

from opentelemetry.trace import Span

from services.shared.errors import EvenflowError


class Ticket:
    """Collects the fate of each submission of one request; calls `on_done` once, on the loop, when all are known."""

    __slots__ = ("arrived_ms", "duplicates", "errors", "is_given_up", "on_done", "remaining", "request_ids", "spans")

    def __init__(self, size: int, arrived_ms: float, on_done: Callable[["Ticket"], None]) -> None:
        self.arrived_ms = arrived_ms
        self.remaining = size
        self.on_done = on_done
        self.request_ids = [b""] * size
        self.errors: dict[int, EvenflowError] | None = None
        self.duplicates: set[int] | None = None
        self.spans: dict[int, Span] | None = None
        # The caller has gone, or its deadline has passed: what waits for a shard need not be stored any more.
        self.is_given_up = False

    def accept(self, index: int) -> None:
        """The submission is durable."""
        self.remaining -= 1
        if not self.remaining:
            self.on_done(self)

    def accept_duplicate(self, index: int) -> None:
        """The submission was durable before."""
        if self.duplicates is None:
            self.duplicates = set()
        self.duplicates.add(index)
        self.accept(index)

    def refuse(self, index: int, error: EvenflowError) -> None:
        """The submission was not accepted."""
        if self.errors is None:
            self.errors = {}
        self.errors[index] = error
        self.accept(index)

    def is_duplicate(self, index: int) -> bool:
        """Whether it was accepted before."""
        return self.duplicates is not None and index in self.duplicates

    def error(self, index: int) -> EvenflowError | None:
        """Why it was refused; None when it was accepted."""
        return None if self.errors is None else self.errors.get(index)
