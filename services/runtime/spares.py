"""Blank sandboxes at hand: shut in already, without a function, so that a cold start need only load the handler."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from services.runtime.parents import PreparedParent
from services.runtime.sandboxes import Sandbox

# Let the sandbox that was just started have the processor first.
REFILL_DELAY_SECONDS = 0.005
# After one could not be made, or died unused.
BACK_OFF_SECONDS = 1.0
log = logging.getLogger(__name__)


class Spares:
    """Keeps `wanted` of them of each parent that was ever used. `make` starts a blank sandbox; OSError: it cannot."""

    def __init__(self, make: Callable[[PreparedParent], Sandbox], wanted: int) -> None:
        self._make = make
        self._wanted = wanted
        self._blank: dict[PreparedParent, deque[Sandbox]] = {}
        self._ending: set[Sandbox] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._gone = asyncio.Event()

    @property
    def count(self) -> int:
        """Blank sandboxes that wait for a function."""
        return sum(len(blank) for blank in self._blank.values())

    def take(self, parent: PreparedParent) -> Sandbox:
        """A blank sandbox, the one that waits longest, or a new one. OSError: it cannot be made."""
        blank = self._blank.setdefault(parent, deque())
        return blank.popleft() if blank else self._make(parent)

    def refill_soon(self, delay_seconds: float = REFILL_DELAY_SECONDS) -> None:
        """Make those that are missing, in a moment."""
        if self._timer is None and not self._stopping:
            self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._refill)

    def prepare(self, parent: PreparedParent) -> None:
        """Have some of this parent from now on."""
        self._blank.setdefault(parent, deque())
        self.refill_soon(0.0)

    def on_gone(self, sandbox: Sandbox) -> None:
        """One died before it got a function."""
        for blank in self._blank.values():
            if sandbox in blank:
                blank.remove(sandbox)
                if not self._stopping:
                    log.warning("a blank sandbox ended by itself")
                    self.refill_soon(BACK_OFF_SECONDS)
        self._ending.discard(sandbox)
        if not self._ending:
            self._gone.set()

    async def stop(self) -> None:
        """End them all."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
        for blank in self._blank.values():
            self._ending.update(blank)
            blank.clear()
        if self._ending:
            self._gone.clear()
            for sandbox in list(self._ending):
                sandbox.end("stopped")
            await self._gone.wait()

    def _refill(self) -> None:
        self._timer = None
        for parent, blank in self._blank.items():
            while parent.is_up and len(blank) < self._wanted and not self._stopping:
                try:
                    blank.append(self._make(parent))
                except OSError as e:
                    log.warning("no blank sandbox can be made: %s", e)
                    self.refill_soon(BACK_OFF_SECONDS)
                    return
