"""One bucket source while this poller owns it: notices and scans say where to look, the announcer does the rest."""

import asyncio
import logging
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import apsw
from watchdog.observers.inotify_c import InotifyFD

from services.policy.s3_events import KeyFilter, ObjectVersion, is_object
from services.poller.settings import PollerSettings
from services.poller.sources.announcer import Announcer, Means
from services.poller.sources.errands import Errands
from services.poller.sources.journal import Journal, journal_path
from services.poller.sources.running import Ownership
from services.poller.sources.scan import Scanner
from services.poller.sources.watch import BucketWatch

# New folders that wait to be scanned; more: all is scanned.
MAX_NEW_FOLDERS = 1_000
# How often a bucket is scanned that cannot be watched whole, or whose folder is not there.
UNWATCHED_RESCAN_MS = 2_000.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all sources of a poller share. No notifier: buckets are scanned often instead of watched."""

    settings: PollerSettings
    means: Means
    threads: Executor
    reading_threads: Executor
    notifier: InotifyFD | None
    journal_folder: Path


class BucketSource:
    """Lives on the loop; `step` moves it on. Blocking work is done by threads."""

    def __init__(
        self,
        around: Surroundings,
        ownership: Ownership,
    ) -> None:
        source = self.source = ownership.source
        self._settings = around.settings
        self._clock = around.means.clock
        self._telemetry = around.means.telemetry
        self._journal_path = journal_path(around.journal_folder, source.source_id)
        self._root = str(Path(around.settings.data_dir) / "buckets" / source.bucket.bucket)
        self._filter = KeyFilter(source.bucket.key_prefix, source.bucket.key_suffix)
        self._errands = Errands(source, around.threads, around.reading_threads, self.step)
        self._watch = BucketWatch(around.notifier, self._root, lambda: self._errands.call_soon(self.step))
        self._announcer = Announcer(
            around.means,
            self._errands,
            source,
            ownership.fleet,
            root=self._root,
            in_flight=self._settings.source_in_flight,
            remaining_ms=ownership.remaining_ms,
            step=self.step,
        )
        self._backlog = self._announcer.backlog
        self._room = asyncio.Event()
        self._scanner: Scanner | None = None
        self._is_scanning = False
        self._is_ending = False
        self._full_scan_due_ms = 0.0
        self._new_folders: dict[str, None] = {}
        self.renew(ownership.epoch, ownership.done_until_ms)
        self._errands.spawn(self._open(ownership.revision))

    @property
    def pending(self) -> int:
        """Paths on their way."""
        return len(self._backlog)

    @property
    def submitted_total(self) -> int:
        """Events submitted since this poller owns the source."""
        return self._announcer.announced_total

    @property
    def last_error(self) -> str:
        """Why the last submission failed; empty: it did not."""
        return self._announcer.last_error

    @property
    def is_failed(self) -> bool:
        """Whether it has to begin anew."""
        return self._errands.is_failed

    @property
    def is_ending(self) -> bool:
        """Whether it was retired."""
        return self._is_ending

    @property
    def is_over(self) -> bool:
        """After `retire`: whether everything under way has ended."""
        return self._is_ending and self._errands.is_idle and not self._backlog.active

    def renew(self, epoch: int, done_until_ms: int) -> None:
        """The lease began, or began again: somebody else may have had it in between."""
        self._errands.epoch = epoch
        self._full_scan_due_ms = 0.0

    def step(self) -> None:
        """Do what can be done now."""
        self._announcer.write_marks()
        if self._is_ending or self.is_failed or self._scanner is None:
            return
        self._take_notices()
        now_ms = self._clock.monotonic_ms()
        self._scan_if_due(now_ms)
        self._announcer.launch(now_ms, self._room_for_objects(self._scanner))
        if not self._backlog.is_full:
            self._room.set()

    def retire(self) -> None:
        """Take up nothing more; what was submitted is still noted in the journal."""
        if not self._is_ending:
            self._is_ending = True
            self._watch.close()
            self._announcer.end()
            self._room.set()

    async def close(self) -> None:
        """End what is left and close the journal."""
        self.retire()
        await self._errands.cancel()
        journal, marks = self._announcer.journal, self._announcer.take_marks()
        if journal is not None:
            await self._errands.run(lambda: _mark_and_close(journal, marks))

    async def _open(self, revision: int) -> None:
        journal = await self._errands.run(lambda: Journal(self._journal_path, self.source.source_id, revision))
        self._announcer.journal = journal
        self._scanner = Scanner(
            self._root,
            journal,
            self._watch,
            self._errands.run,
            self._filter.passes,
            self._settings.source_max_objects,
        )

    # --- finding objects

    def _take_notices(self) -> None:
        notices = self._watch.take()
        is_lost = notices.is_lost
        for path, is_whole in notices.files.items():
            if self._filter.passes(path) and is_object(path):
                is_lost = not self._backlog.add(path, is_whole=is_whole) or is_lost
        self._new_folders.update(notices.folders)
        if is_lost or len(self._new_folders) > MAX_NEW_FOLDERS:
            self._full_scan_due_ms = 0.0

    def _scan_if_due(self, now_ms: float) -> None:
        if self._is_scanning or self._backlog.is_full:
            return
        if now_ms >= self._full_scan_due_ms:
            # Set before it begins: whoever asks for a scan during this one gets another.
            self._full_scan_due_ms = now_ms + self._rescan_ms()
            self._new_folders.clear()
            self._start_scan("")
        elif self._new_folders:
            folder = next(iter(self._new_folders))
            del self._new_folders[folder]
            self._start_scan(folder)

    def _start_scan(self, folder: str) -> None:
        assert self._scanner is not None
        self._is_scanning = True
        self._errands.spawn(self._scan(self._scanner, folder))

    async def _scan(self, scanner: Scanner, folder: str) -> None:
        bucket = self.source.bucket.bucket
        began_ms = self._clock.monotonic_ms()
        try:
            if not folder:
                await scanner.sweep(lambda: self._is_ending)
            async with aclosing(scanner.walk(folder)) as paths:
                async for path in paths:
                    await self._wait_for_room()
                    if self._is_ending:
                        return
                    self._backlog.add(path, is_whole=False)
            if not folder:
                self._telemetry.scanned(bucket, self._clock.monotonic_ms() - began_ms)
            for problem in scanner.take_problems():
                self._errands.warn_once(problem, "bucket %s: %s", bucket, problem)
        except OSError as e:
            # The bucket's folder itself: made when a function is deployed that names it.
            self._errands.warn_once(f"root {e.errno}", "the folder of bucket %s cannot be read: %s", bucket, e)
            retry_ms = min(UNWATCHED_RESCAN_MS, self._rescan_ms())
            self._full_scan_due_ms = min(self._full_scan_due_ms, self._clock.monotonic_ms() + retry_ms)
        finally:
            self._is_scanning = False

    async def _wait_for_room(self) -> None:
        while self._backlog.is_full and not self._is_ending:
            self._room.clear()
            await self._room.wait()

    def _rescan_ms(self) -> float:
        usual_ms = self._settings.source_rescan_seconds * 1_000
        return usual_ms if self._watch.is_complete else min(usual_ms, UNWATCHED_RESCAN_MS)

    def _room_for_objects(self, scanner: Scanner) -> int:
        limit = self._settings.source_max_objects
        room = limit - scanner.journaled
        if room <= 0 and self.pending:
            self._errands.warn_once(
                "full",
                "bucket %s: %d objects are followed already; further ones wait until some are removed or "
                "source.max_objects is raised",
                self.source.bucket.bucket,
                limit,
            )
        return room


def _mark_and_close(journal: Journal, marks: list[tuple[ObjectVersion, str]]) -> None:
    try:
        if marks:
            journal.mark(marks)
    except apsw.Error as e:
        log.warning("%d objects could not be noted as announced; they are announced again: %s", len(marks), e)
    finally:
        journal.close()
