"""Ends sandboxes that are over a bound which only a look can tell; see watch.py for the bounds."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable

from services.runtime import watch
from services.runtime.functions import HostedFunction
from services.runtime.sandboxes import Sandbox
from services.runtime.settings import RuntimeSettings
from services.runtime.tiers import Isolation

log = logging.getLogger(__name__)


class SandboxWatch:
    """Looks every watch.WATCH_SECONDS, off the loop. `living`: all there are now; `tick`: called before each look."""

    def __init__(
        self,
        settings: RuntimeSettings,
        isolation: Isolation,
        living: Callable[[], Iterable[Sandbox]],
        tick: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._isolation = isolation
        self._living = living
        self._tick = tick
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="watch sandboxes")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        for round_number in itertools.count():
            await asyncio.sleep(watch.WATCH_SECONDS)
            try:
                self._tick()
                await self._look(looks_at_all=round_number % watch.IDLE_ROUNDS == 0)
            except Exception:
                # Without it nothing bounds /tmp: the next look is as good as the last one.
                log.exception("a look at the sandboxes failed")

    async def _look(self, looks_at_all: bool) -> None:
        living = {sandbox.number: sandbox for sandbox in self._living()}
        watched = [self._watched(s) for s in living.values() if looks_at_all or s.state != "idle"]
        if not watched:
            return
        peaks, over = await asyncio.to_thread(lambda: (watch.peaks(watched), watch.over(watched)))
        for number, peak_kb in peaks:
            living[number].seen_rss_kb = peak_kb
        for number, cause in over:
            if living[number].state != "gone":
                living[number].end(cause)

    def _watched(self, sandbox: Sandbox) -> watch.Watched:
        settings, isolation = self._settings, self._isolation
        function: HostedFunction = sandbox.function
        return watch.Watched(
            number=sandbox.number,
            pid=sandbox.pid,
            tmp_dir=sandbox.seat.tmp_dir,
            max_tmp_bytes=(function.version.ephemeral_storage_mb or settings.tmp_mb) << 20,
            max_memory_bytes=0 if isolation.has_cgroup else function.version.memory_mb << 20,
            max_processes=0 if isolation.has_cgroup or isolation.has_uid else settings.max_processes,
            shared_bytes=watch.resident_bytes(sandbox.parent.pid),
        )
