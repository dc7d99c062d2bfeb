"""Shards of one node take turns: one at a time runs Python and SQL, any number waits for the disk.

Every statement lets go of the interpreter's lock, so that threads which all have work would hand it to and fro for each
statement of each other. With turns a shard does its work in one go, and what arrives while it waits for its turn makes
its next commit larger.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """The turn of all shards of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """It is our turn inside."""
        self._take()
        try:
            yield
        finally:
            self._give()

    @contextmanager
    def given_away(self) -> Iterator[None]:
        """Others may have theirs inside: we wait for the disk. Does nothing for a thread that has no turn."""
        if self._holder != threading.get_ident():
            yield
            return
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        self._lock.acquire()
        self._holder = threading.get_ident()

    def _give(self) -> None:
        self._holder = 0
        self._lock.release()
