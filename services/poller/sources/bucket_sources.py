"""The bucket sources that this poller owns, by epoch leases from control."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from evenflow.control.v1 import control_pb2, resources_pb2
from evenflow.poller.v1 import poller_pb2
from watchdog.observers.inotify_c import InotifyFD

from services.policy.s3_events import wants_created
from services.poller.settings import PollerSettings
from services.poller.sources.announcer import Means, Submit
from services.poller.sources.bucket_source import BucketSource, Surroundings
from services.poller.sources.errands import names_of
from services.poller.sources.journal import drop_journals
from services.poller.sources.telemetry import SourceTelemetry
from services.shared.clock import Clock
from services.shared.follower import ConfigView
from services.shared.metrics import Metrics

# Sources of one poller at once; control's further leases are left unused, for another poller to have when they end.
MAX_SOURCES = 1_000
TICK_SECONDS = 0.05
# A source whose disk failed begins anew after this.
RESTART_MS = 2_000.0
# How long `drain` waits for the answers to what was submitted.
DRAIN_SECONDS = 2.0
SCANNING_THREADS = 3
READING_THREADS = 2
JOURNALS = "sources"
KIND = "bucket"
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lease:
    epoch: int
    ends_ms: float


class BucketSources:
    """Runs a source while its lease holds by the monotonic clock. Make it and call it on the running loop."""

    def __init__(
        self,
        settings: PollerSettings,
        *,
        view: Callable[[], ConfigView],
        submit: Submit,
        clock: Clock,
        metrics: Metrics,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`submit`: a door's; its callback may come before it returns."""
        self._view = view
        self._clock = clock
        self._leases: dict[str, _Lease] = {}
        self._running: dict[str, BucketSource] = {}
        self._retired: dict[BucketSource, None] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._restart_ms: dict[str, float] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._swept_revision = -1
        self._is_draining = False
        # Rounds of the ticker so far.
        self.rounds = 0
        self._halt = threading.Event()
        self._all_ended = asyncio.Event()
        self._scanning_threads = ThreadPoolExecutor(SCANNING_THREADS, "sources")
        self._reading_threads = ThreadPoolExecutor(READING_THREADS, "large-objects")
        self._around = Surroundings(
            settings=settings,
            means=Means(submit, clock, draw, SourceTelemetry(metrics, self._pending), self._halt),
            threads=self._scanning_threads,
            reading_threads=self._reading_threads,
            notifier=_notifier(),
            # Not a node's own folder: whoever gets the source next goes on where this poller stopped.
            journal_folder=Path(settings.data_dir) / "poller" / JOURNALS,
        )

    def on_lease(self, lease: control_pb2.SourceLease) -> None:
        """Own the source for so long from now; a lease of an epoch that is over is passed over."""
        ends_ms = self._clock.monotonic_ms() + lease.lease_ms
        held = self._leases.get(lease.source_id)
        if held is None:
            if len(self._leases) >= MAX_SOURCES:
                log.error("source %s is not run: this poller has %d already", lease.source_id, MAX_SOURCES)
                return
            self._leases[lease.source_id] = _Lease(lease.epoch, ends_ms)
        elif lease.epoch < held.epoch:
            return
        else:
            has_gap = lease.epoch > held.epoch or held.ends_ms <= self._clock.monotonic_ms()
            held.epoch, held.ends_ms = lease.epoch, ends_ms
            if has_gap and (running := self._running.get(lease.source_id)) is not None:
                # Somebody else may have had it in between.
                running.renew(lease.epoch)
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
            found.append(
                poller_pb2.SourceDescription(
                    source_id=source_id,
                    kind=KIND,
                    epoch=lease.epoch,
                    submitted_total=running.announced_total if running is not None else 0,
                    last_error=running.last_error if running is not None else "",
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
        """End everything and close the journals; call it once."""
        self._is_draining = True
        self._halt.set()
        self._reconcile()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._dropping is not None:
            await asyncio.gather(self._dropping, return_exceptions=True)
        await asyncio.gather(*(source.close() for source in self._retired), *self._closing, return_exceptions=True)
        self._retired.clear()
        if self._around.notifier is not None:
            self._around.notifier.stop()
        self._scanning_threads.shutdown(wait=True, cancel_futures=True)
        self._reading_threads.shutdown(wait=True, cancel_futures=True)

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
            is_runnable = source is not None and source.HasField("bucket") and wants_created(source.bucket.events)
            if source is None or not is_runnable or source_id in self._running:
                continue
            if self._restart_ms.get(source_id, now_ms) <= now_ms:
                self._restart_ms.pop(source_id, None)
                self._start(source, view.fleet, view.revision, lease)

    def _start(
        self, source: resources_pb2.EventSource, fleet: resources_pb2.Fleet, revision: int, lease: _Lease
    ) -> None:
        log.info("source %s begins (epoch %d)", names_of(source), lease.epoch)
        self._running[source.source_id] = BucketSource(
            self._around, source, fleet, revision, lease.epoch, lambda: lease.ends_ms - self._clock.monotonic_ms()
        )

    def _lose(self, source_id: str, how: str) -> None:
        lease = self._leases.pop(source_id)
        self._restart_ms.pop(source_id, None)
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
        self._drop_journals()

    def _in_background(self, source: BucketSource) -> None:
        task = asyncio.create_task(source.close(), name="close source")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _drop_journals(self) -> None:
        view = self._view()
        is_quiet = not self._retired and not self._closing and self._dropping is None
        if view.revision == self._swept_revision or not is_quiet or self._is_draining:
            return
        self._swept_revision = view.revision
        self._dropping = asyncio.create_task(
            self._drop(set(view.sources) | set(self._running), view.revision), name="drop journals"
        )

    async def _drop(self, kept: set[str], revision: int) -> None:
        loop, folder = asyncio.get_running_loop(), self._around.journal_folder
        try:
            for name in await loop.run_in_executor(self._scanning_threads, drop_journals, folder, kept, revision):
                log.info("the journal %s was dropped: its source is gone", name)
        except OSError as e:
            log.warning("journals of sources that are gone could not be removed: %s", e)
        finally:
            self._dropping = None

    def _pending(self) -> list[tuple[str, int]]:
        # Called from another thread: a copy of the table, in one step, is all that is looked at.
        found: dict[str, int] = {}
        for source in tuple(self._running.values()):
            bucket = source.source.bucket.bucket
            found[bucket] = found.get(bucket, 0) + source.pending
        return list(found.items())


def _notifier() -> InotifyFD | None:
    try:
        notifier = InotifyFD()
    except OSError as e:
        log.warning("no inotify (%s; see the sysctl fs.inotify.max_user_instances): buckets are scanned instead", e)
        return None
    notifier.start()
    return notifier
