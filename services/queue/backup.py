"""A consistent copy of a shard that goes on serving.

SQLite's backup copies pages in steps on the shard's own connection and thread: what is written meanwhile is written to
the copy, too, so that it never begins anew (as it does when another connection writes) and ends in the state of its
last step. A step is sized by the time that the one before it took; between steps the shard has as much time for others.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from services.queue.paths import sync_directory
from services.shared.errors import EvenflowError, Reason

if TYPE_CHECKING:
    from services.queue.shard import Shard
    from services.queue.writer import ShardWriter

STEP_TARGET_MS = 5.0
MIN_STEP_PAGES = 8
MAX_STEP_PAGES = 4_096
FIRST_STEP_PAGES = 64
# A backup of a shard that is written to faster than pages are copied would never end; this is 256 GiB in small steps.
MAX_STEPS = 8_388_608
# Space that must stay free on the volume beside the copy.
SPARE_BYTES = 64 << 20
CACHE_KIB = 2_048
ABANDON_POLL_SECONDS = 0.02
ABANDON_POLLS = 500
_READ_BYTES = 1 << 20
_FORMAT = 1


@dataclass(slots=True)
class Facts:
    """What a finished copy is; the numbers are those of the shard's memory at the last step."""

    shard_id: int
    identity: str
    generation: int
    stamp: int
    taken_at_ms: int
    depth: int
    event_rows: int
    delayed_rows: int
    dead_letters: int
    pages: int = 0
    file_bytes: int = 0
    sha256: str = ""
    longest_step_us: int = 0


class OnlineBackup:
    """One copy of one shard; every method that takes the shard runs on its thread."""

    def __init__(self, path: Path, monotonic_ms: Callable[[], float], wall_ms: Callable[[], int]) -> None:
        self._path = path
        self._monotonic_ms = monotonic_ms
        self._wall_ms = wall_ms
        self._target: apsw.Connection | None = None
        self._backup: apsw.Backup | None = None
        self._pages = FIRST_STEP_PAGES
        self.longest_step_ms = 0.0
        self.last_step_ms = 0.0
        self.progress = (0, 0)

    async def run(self, writer: "ShardWriter", on_progress: Callable[[int, int], None] | None = None) -> Facts:
        """Copy it all and make it durable. EvenflowError: no room, a file in the way, or the shard failed meanwhile."""
        try:
            await writer.call(self._begin)
            for _ in range(MAX_STEPS):
                facts = await writer.call(self._step)
                if on_progress is not None:
                    on_progress(*self.progress)
                if facts is not None:
                    break
                await asyncio.sleep(self.last_step_ms / 1_000)
            else:
                raise EvenflowError(Reason.ERROR_REASON_UNAVAILABLE, "the backup did not end: the shard grows too fast")
            facts.longest_step_us = int(self.longest_step_ms * 1_000)
            facts.pages = self.progress[1]
            await asyncio.to_thread(self._seal, facts)
            return facts
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._abandon(writer)))
            raise

    def _begin(self, shard: "Shard") -> None:
        needed = shard.database.file_bytes() + SPARE_BYTES
        space = os.statvfs(self._path.parent)
        if space.f_bavail * space.f_frsize < needed:
            message = f"a copy needs {needed >> 20} MiB free beside {self._path}"
            raise EvenflowError(Reason.ERROR_REASON_DISK_FULL, message)
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            message = f"{self._path} is there already: name a file that is not"
            raise EvenflowError(Reason.ERROR_REASON_RESOURCE_CONFLICT, message) from None
        self._target = target = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
        # Made durable at the end, on another thread; a copy that is cut off is deleted.
        target.execute("PRAGMA synchronous = OFF")
        target.execute("PRAGMA journal_mode = OFF")
        target.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._backup = target.backup("main", shard.database.connection, "main")
        shard.database.on_close.append(self._abort)

    def _step(self, shard: "Shard") -> Facts | None:
        """Copy some pages; what the copy is, once it has them all."""
        assert self._backup is not None and self._target is not None
        started_ms = self._monotonic_ms()
        try:
            is_done = self._backup.step(self._pages)
        except apsw.FullError as e:
            raise EvenflowError(Reason.ERROR_REASON_DISK_FULL, f"no room for the copy: {e}") from e
        self.progress = (self._backup.page_count - self._backup.remaining, self._backup.page_count)
        facts = self._finish(shard) if is_done else None
        self.last_step_ms = self._monotonic_ms() - started_ms
        self.longest_step_ms = max(self.longest_step_ms, self.last_step_ms)
        if self.last_step_ms > STEP_TARGET_MS:
            self._pages = max(MIN_STEP_PAGES, self._pages // 2)
        elif self.last_step_ms < STEP_TARGET_MS / 2:
            self._pages = min(MAX_STEP_PAGES, self._pages * 2)
        return facts

    def _finish(self, shard: "Shard") -> Facts:
        assert self._backup is not None
        self._backup.finish()
        self._backup = None
        shard.database.on_close.remove(self._abort)
        get = shard.database.get_meta
        return Facts(
            shard.shard_id,
            str(get("identity")),
            int(get("generation")),
            int(get("stamp") or 0),
            self._wall_ms(),
            depth=shard.depth,
            event_rows=shard.event_count,
            delayed_rows=shard.delayed_count,
            dead_letters=shard.dead_count,
        )

    def _seal(self, facts: Facts) -> None:
        """Durable, with a note beside it that says what it is."""
        assert self._target is not None
        self._target.close()
        digest = hashlib.sha256()
        with open(self._path, "rb") as file:
            os.fsync(file.fileno())
            while part := file.read(_READ_BYTES):
                digest.update(part)
                facts.file_bytes += len(part)
        facts.sha256 = digest.hexdigest()
        with open(note_path(self._path), "w", opener=_private) as file:
            json.dump({"format": _FORMAT, **asdict(facts)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(self._path.parent)

    async def _abandon(self, writer: "ShardWriter") -> None:
        """Leave nothing; on the shard's thread, behind a step that may still be running there."""
        try:
            await writer.call(self._end)
        except EvenflowError:
            # The shard failed: its thread ends the backup when it closes the file.
            for _ in range(ABANDON_POLLS):
                if self._target is None:
                    break
                await asyncio.sleep(ABANDON_POLL_SECONDS)

    def _end(self, shard: "Shard") -> None:
        if self._abort in shard.database.on_close:
            shard.database.on_close.remove(self._abort)
        self._abort()

    def _abort(self) -> None:
        if self._target is None:
            return
        if self._backup is not None:
            self._backup.close(True)
            self._backup = None
        self._target.close()
        self._target = None
        for path in (self._path, note_path(self._path), Path(f"{self._path}-journal")):
            path.unlink(missing_ok=True)


def note_path(path: Path) -> Path:
    """The file that says what a backup is."""
    return Path(f"{path}.json")


def read_note(path: Path) -> Facts | None:
    """What the note beside a backup says; None: there is none that can be read."""
    try:
        found = json.loads(note_path(path).read_text())
        if found.pop("format") != _FORMAT:
            return None
        return Facts(**found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def digest_of(path: Path) -> str:
    """SHA-256 of a file. OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_EXCL, 0o600)
