"""Runs bucket sources: the threads, the notifier and the journals that all of them share."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evenflow.control.v1 import resources_pb2
from watchdog.observers.inotify_c import InotifyFD

from services.policy.s3_events import wants_created
from services.poller.settings import PollerSettings
from services.poller.sources.announcer import Means, Submit
from services.poller.sources.bucket_source import BucketSource, Surroundings
from services.poller.sources.journal import drop_journals
from services.poller.sources.running import Ownership
from services.poller.sources.telemetry import SourceTelemetry
from services.shared.clock import Clock
from services.shared.metrics import Metrics

SCANNING_THREADS = 3
READING_THREADS = 2
JOURNALS = "sources"
log = logging.getLogger(__name__)


class BucketSources:
    """See SourceKind: folders of this fleet. Make it on the running loop."""

    name = "bucket"

    def __init__(
        self,
        settings: PollerSettings,
        *,
        submit: Submit,
        clock: Clock,
        metrics: Metrics,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`submit`: a door's; its callback may come before it returns."""
        self._begun: dict[BucketSource, None] = {}
        self._dropping: asyncio.Task[None] | None = None
        self._swept_revision = -1
        self._halt = threading.Event()
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

    def wants(self, source: resources_pb2.EventSource) -> bool:
        """See SourceKind. A remote bucket's events come in by the webhook door."""
        return source.HasField("bucket") and not source.bucket.is_remote and wants_created(source.bucket.events)

    def begin(self, ownership: Ownership) -> BucketSource:
        """See SourceKind."""
        begun = BucketSource(self._around, ownership)
        self._begun[begun] = None
        return begun

    def tick(self, kept_ids: Callable[[], set[str]], revision: int, *, is_quiet: bool) -> None:
        """See SourceKind: journals of sources that are gone are removed."""
        for source in [s for s in self._begun if s.is_ending]:
            del self._begun[source]
        if is_quiet and self._dropping is None and revision != self._swept_revision:
            self._swept_revision = revision
            self._dropping = asyncio.create_task(self._drop(kept_ids(), revision), name="drop journals")

    def halt(self) -> None:
        """See SourceKind: reading of large objects stops."""
        self._halt.set()

    async def stop(self) -> None:
        """See SourceKind."""
        self._halt.set()
        if self._dropping is not None:
            await asyncio.gather(self._dropping, return_exceptions=True)
        if self._around.notifier is not None:
            self._around.notifier.stop()
        self._scanning_threads.shutdown(wait=True, cancel_futures=True)
        self._reading_threads.shutdown(wait=True, cancel_futures=True)

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
        for source in tuple(self._begun):
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
