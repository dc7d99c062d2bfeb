"""Forks of templates that wait for their assignment, so that a restore need only refresh what must differ."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from services.runtime.sandboxes import Sandbox
from services.runtime.spares import BACK_OFF_SECONDS, REFILL_DELAY_SECONDS
from services.runtime.template_forks import TemplateFork
from services.runtime.templates import Template

log = logging.getLogger(__name__)


class ForksAtHand:
    """Keeps `wanted` of each template. `make` starts a blank sandbox of a fork; OSError: it cannot."""

    def __init__(self, make: Callable[[TemplateFork], Sandbox], wanted: int) -> None:
        self._make = make
        self._wanted = wanted
        self._blank: dict[Template, deque[Sandbox]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def count(self, template: Template) -> int:
        """Those of it that have no function yet."""
        return len(self._blank.get(template, ()))

    def take(self, template: Template) -> Sandbox | None:
        """The one that waits longest, or a new one; None: the template has as many forks as it may have."""
        blank = self._blank.setdefault(template, deque())
        self.refill_soon()
        return blank.popleft() if blank else self._new(template)

    def keep(self, template: Template) -> None:
        """Have some of it from now on."""
        self._blank.setdefault(template, deque())
        self.refill_soon(0.0)

    def forget(self, template: Template) -> None:
        """It ends, and they with it."""
        self._blank.pop(template, None)

    def on_gone(self, sandbox: Sandbox) -> None:
        """One died before it got a function."""
        for blank in self._blank.values():
            if sandbox in blank:
                blank.remove(sandbox)
                log.warning("a fork of a template ended by itself")
                self.refill_soon(BACK_OFF_SECONDS)

    def refill_soon(self, delay_seconds: float = REFILL_DELAY_SECONDS) -> None:
        """Make those that are missing, in a moment."""
        if self._timer is None and self._blank:
            self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._refill)

    def stop(self) -> None:
        """Make no more."""
        self._blank.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _refill(self) -> None:
        self._timer = None
        for template, blank in self._blank.items():
            while template.is_ready and not template.is_ending and len(blank) < self._wanted:
                try:
                    sandbox = self._new(template)
                except OSError as e:
                    log.warning("no fork of a template can be made: %s", e)
                    self.refill_soon(BACK_OFF_SECONDS)
                    return
                if sandbox is None:
                    break
                blank.append(sandbox)

    def _new(self, template: Template) -> Sandbox | None:
        fork = template.take_fork()
        if fork is None:
            return None
        try:
            return self._make(fork)
        except OSError:
            fork.free()
            raise
