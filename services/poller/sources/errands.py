"""What a source has under way: tasks on the loop, blocking work on threads, and its lines in the log."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

import apsw
from evenflow.control.v1 import resources_pb2

T = TypeVar("T")
log = logging.getLogger(__name__)


class Errands:
    """The undertakings of one source; an unexpected error in any of them fails the source."""

    def __init__(
        self,
        source: resources_pb2.EventSource,
        threads: Executor,
        reading_threads: Executor,
        on_end: Callable[[], None],
    ) -> None:
        """`reading_threads`: for large objects. `on_end`: called whenever a task has ended."""
        self.is_failed = False
        self.epoch = 0
        self._source = source
        self._threads = threads
        self._reading_threads = reading_threads
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no task is under way."""
        return not self._tasks

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have a thread do blocking work."""
        return self._loop.run_in_executor(self._threads, work)

    def read(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """The same for work that may take minutes."""
        return self._loop.run_in_executor(self._reading_threads, work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task; callers bound how many."""
        task = self._loop.create_task(work, name=f"source {self._source.source_id}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def cancel(self) -> None:
        """End every task."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call it from the loop's next turn; any thread may ask. After the loop's end nothing happens."""
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass

    def warn_once(self, topic: str, text: str, *parts: object) -> None:
        """Log, once a topic, what an operator may have to act on."""
        if topic not in self._told:
            self._told.add(topic)
            name = self._source.function_name
            log.warning("%s (epoch %d)", text % parts, self.epoch, extra={"function_name": name})

    def forget_topic(self, topic: str) -> None:
        """It is over: were it to come again, that is news."""
        self._told.discard(topic)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A disk that fails, in most cases. The owner begins anew after a while; the folder has all that counts.
            self.is_failed = True
            is_expected = isinstance(error, apsw.Error | OSError)
            trace = None if is_expected else error
            log.error("source %s has to begin anew: %s", names_of(self._source), error, exc_info=trace)
        self._on_end()


def names_of(source: resources_pb2.EventSource) -> str:
    """The source as logs name it."""
    match source.WhichOneof("kind"):
        case "sqs":
            what = source.sqs.queue_arn
        case "schedule":
            what = source.schedule.expression
        case _:
            what = source.bucket.bucket
    return f"{what} -> {source.function_name} ({source.source_id})"
