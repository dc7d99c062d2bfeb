"""A bounded pool of threads for calls that block: made when needed, and no process waits for them when it ends.

The standard library's executor is joined at the end of its process, however long a call still takes: a peer that says
nothing would hold a service beyond its time to stop.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class CallThreads:
    """Threads named `name`, at most `limit`. Used from one thread; what it runs must not raise."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self.is_closed = False

    def run(self, call: Callable[[], None]) -> None:
        """Run this on a thread, as soon as one is free. RuntimeError: closed."""
        if self.is_closed:
            raise RuntimeError(f"{self._name} is closed")
        self._calls.put(call)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._limit:
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Begin nothing more; what runs is left to itself."""
        self.is_closed = True
        while not self._calls.empty():
            self._calls.get()
        for _ in self._threads:
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            self._idle.release()
