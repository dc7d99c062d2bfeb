"""The event sources of every kind that this poller owns, by epoch leases from control."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from evenflow.control.v1 import control_pb2
from evenflow.poller.v1 import poller_pb2

from services.poller.sources.errands import names_of
from services.poller.sources.running import Ownership, RunningSource, SourceKind
from services.shared.clock import Clock
from services.shared.config_view import ConfigView

# Sources of one poller at once; control's further leases are left unused, for another poller to have when they end.
MAX_SOURCES = 1_000
TICK_SECONDS = 0.05
# A source whose disk failed, or that could not begin, begins anew after this.
RESTART_MS = 2_000.0
# How long `drain` waits for the answers to what was submitted.
DRAIN_SECONDS = 2.0
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    epoch: int
    ends_ms: float
    done_until_ms: int


class EventSources:
    """Runs a source while its lease holds by the monotonic clock. Make it and call it on the running loop."""

    def __init__(
        self,
        kinds: Iterable[SourceKind],
        *,
        view: Callable[[], ConfigView],
        clock: Clock,
        report_progress: Callable[[str, int, int], None] = lambda _source_id, _epoch, _done_until_ms: None,
    ) -> None:
        """`report_progress`: tells control, by source and epoch, see SourceProgress."""
        self._report_progress = report_progress
        self._kinds = tuple(kinds)
        self._view = view
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._running: dict[str, RunningSource] = {}
        self._retired: dict[RunningSource, None] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._restart_ms: dict[str, float] = {}
        # Why one could not begin.
        self._begin_errors: dict[str, str] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._is_draining = False
        # Rounds of the ticker so far.
        self.rounds = 0
        self._all_ended = asyncio.Event()

    def on_lease(self, lease: control_pb2.SourceLease) -> None:
        """Own the source for so long from now; a lease of an epoch that is over is passed over."""
        ends_ms = self._clock.monotonic_ms() + lease.lease_ms
        held = self._leases.get(lease.source_id)
        if held is None:
            if len(self._leases) >= MAX_SOURCES:
                log.error("source %s is not run: this poller has %d already", lease.source_id, MAX_SOURCES)
                return
            self._leases[lease.source_id] = _Lease(lease.epoch, ends_ms, lease.done_until_ms)
        elif lease.epoch < held.epoch:
            return
        else:
            has_gap = lease.epoch > held.epoch or held.ends_ms <= self._clock.monotonic_ms()
            held.epoch, held.ends_ms = lease.epoch, ends_ms
            # One that is on its way is older than what this poller did since.
            held.done_until_ms = lease.done_until_ms if has_gap else max(held.done_until_ms, lease.done_until_ms)
            if has_gap and (running := self._running.get(lease.source_id)) is not None:
                # Somebody else may have had it in between.
                running.renew(lease.epoch, lease.done_until_ms)
        self._reconcile()
        self._start_ticker()

    def on_revoked(self, revoked: control_pb2.SourceRevoked) -> None:
        """The source is another's from now on; passed over when it is about an older epoch."""
        held = self._leases.get(revoked.source_id)
        if held is not None and revoked.epoch >= held.epoch:
            self._lose(revoked.source_id, "was revoked")

    def follow(self) -> None:
        """The configuration changed: sources may be new, different or gone."""
        self._reconcile()
        self._start_ticker()

    def describe(self) -> list[poller_pb2.SourceDescription]:
        """The sources that this poller owns now."""
        found = []
        for source_id, lease in self._leases.items():
            running = self._running.get(source_id)
            source = self._view().sources.get(source_id)
            found.append(
                poller_pb2.SourceDescription(
                    source_id=source_id,
                    kind=source.WhichOneof("kind") or "" if source is not None else "",
                    epoch=lease.epoch,
                    submitted_total=running.submitted_total if running is not None else 0,
                    last_error=running.last_error if running is not None else self._begin_errors.get(source_id, ""),
                )
            )
        return found

    async def drain(self) -> None:
        """Take up nothing new; wait, within a bound, for the answers to what was submitted."""
        self._is_draining = True
        self._reconcile()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                if self._retired or self._closing:
                    await self._all_ended.wait()
        except TimeoutError:
            log.info("%d sources still wait for answers; their objects are announced again", len(self._retired))

    async def stop(self) -> None:
        """End everything; call it once."""
        self._is_draining = True
        for kind in self._kinds:
            kind.halt()
        self._reconcile()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await asyncio.gather(*(source.close() for source in self._retired), *self._closing, return_exceptions=True)
        self._retired.clear()
        await asyncio.gather(*(kind.stop() for kind in self._kinds), return_exceptions=True)

    # --- which sources run

    def _reconcile(self) -> None:
        view, now_ms = self._view(), self._clock.monotonic_ms()
        for source_id, running in list(self._running.items()):
            wanted = view.sources.get(source_id)
            is_wanted = source_id in self._leases and wanted == running.source and not self._is_draining
            if not is_wanted or running.is_failed:
                del self._running[source_id]
                running.retire()
                self._retired[running] = None
                if running.is_failed:
                    self._restart_ms[source_id] = now_ms + RESTART_MS
        if view.fleet is None or self._is_draining:
            return
        for source_id, lease in self._leases.items():
            source = view.sources.get(source_id)
            if source is None or source.is_disabled or source_id in self._running:
                continue
            kind = next((kind for kind in self._kinds if kind.wants(source)), None)
            if kind is not None and self._restart_ms.get(source_id, now_ms) <= now_ms:
                self._restart_ms.pop(source_id, None)
                remaining_ms = partial(self._remaining_ms, lease)
                report = partial(self._done, source_id, lease)
                done_ms = lease.done_until_ms
                owned = Ownership(source, view.fleet, view.revision, lease.epoch, remaining_ms, done_ms, report)
                self._begin(kind, owned)

    def _done(self, source_id: str, lease: _Lease, done_until_ms: int) -> None:
        lease.done_until_ms = done_until_ms
        self._report_progress(source_id, lease.epoch, done_until_ms)

    def _begin(self, kind: SourceKind, ownership: Ownership) -> None:
        source_id, names = ownership.source.source_id, names_of(ownership.source)
        try:
            self._running[source_id] = kind.begin(ownership)
        except Exception as e:
            # Control lets none in that cannot run; one of an older snapshot must not stop the others.
            self._restart_ms[source_id] = self._clock.monotonic_ms() + RESTART_MS
            if self._begin_errors.get(source_id) != str(e):
                self._begin_errors[source_id] = str(e)
                log.exception("source %s cannot begin; it is tried again", names)
        else:
            self._begin_errors.pop(source_id, None)
            log.info("source %s begins (epoch %d)", names, ownership.epoch)

    def _remaining_ms(self, lease: _Lease) -> float:
        return lease.ends_ms - self._clock.monotonic_ms()

    def _lose(self, source_id: str, how: str) -> None:
        lease = self._leases.pop(source_id)
        self._restart_ms.pop(source_id, None)
        self._begin_errors.pop(source_id, None)
        # Whoever still looks at an object must not submit it.
        lease.ends_ms = float("-inf")
        log.info("the lease of source %s %s (epoch %d)", source_id, how, lease.epoch)
        self._reconcile()

    # --- time passes

    def _start_ticker(self) -> None:
        if self._ticker is None and not self._is_draining:
            self._ticker = asyncio.create_task(self._tick(), name="event sources")

    async def _tick(self) -> None:
        while True:
            try:
                self._tick_once()
            except Exception:
                # One source's trouble must not stop the others.
                log.exception("event sources: a round failed")
            self.rounds += 1
            await asyncio.sleep(TICK_SECONDS)

    def _tick_once(self) -> None:
        now_ms = self._clock.monotonic_ms()
        for source_id in [s for s, lease in self._leases.items() if lease.ends_ms <= now_ms]:
            self._lose(source_id, "ended without renewal")
        self._reconcile()
        for source in (*self._running.values(), *self._retired):
            source.step()
        for source in [s for s in self._retired if s.is_over]:
            del self._retired[source]
            self._in_background(source)
        if self._is_draining and not self._retired and not self._closing:
            self._all_ended.set()
        is_quiet = not self._retired and not self._closing and not self._is_draining
        for kind in self._kinds:
            kind.tick(self._kept_ids, self._view().revision, is_quiet=is_quiet)

    def _kept_ids(self) -> set[str]:
        return {*self._view().sources, *self._running}

    def _in_background(self, source: RunningSource) -> None:
        task = asyncio.create_task(source.close(), name="close source")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
