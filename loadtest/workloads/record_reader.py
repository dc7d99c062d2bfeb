"""Reads what handlers left in the bucket's folder, as it grows."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.arrivals import MAX_ARRIVALS
from loadtest.workloads.handler import RECORD, SUFFIX

# Files of sandboxes that may write in this run.
MAX_FILES = 8_192
# Older ones, of earlier runs.
MAX_OLD_FILES = 200_000
# Unchanged for so long before the run: most likely its sandbox is gone. It is looked at now and then all the same.
OLD_SECONDS = 900.0
_OLD_POLL_SECONDS = 1.0
_READ_BYTES = 1 << 22
_FIELDS = RECORD.size // 8
_FIRST_SIZE = 1_024
_NONE = np.iinfo(np.uint64).max


class TooManyFiles(RuntimeError):
    """More than MAX_FILES or MAX_OLD_FILES record files; the message says what to do."""


class RecordReader:
    """The records of one run. No file is kept open.

    run: as in workloads.work; other runs' records are passed over. What is there already when it is made is not read.
    """

    def __init__(self, folder: Path, run: int) -> None:
        self.folder = folder
        self.run = run
        folder.mkdir(parents=True, exist_ok=True)
        # Nanoseconds since the epoch of each event's first start, by number.
        self._starts = np.full(_FIRST_SIZE, _NONE, dtype=np.uint64)
        self.records = 0
        self.last_end_ns = 0
        # Handlers that ended between the moments told to count_between.
        self.completed = 0
        self._counted_ns = (0, 0)
        # What was read of each file, in bytes: of those that may grow, and of the old ones.
        self._files: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._old_due = time.monotonic() + _OLD_POLL_SECONDS
        self._folder_ns = -1
        self._find_new(old_before=time.time() - OLD_SECONDS)

    def count_between(self, from_ns: int, to_ns: int) -> None:
        """Count those that ended between these moments, nanoseconds since the epoch; of what is read from now on."""
        self._counted_ns = (from_ns, to_ns)

    def read(self) -> Sequence[int]:
        """What is new: numbers of events whose handler ended, each as often as it did. TooManyFiles."""
        self._find_new()
        found: list[int] = []
        for name in self._files:
            found += self._read_new(name)
        if (now := time.monotonic()) >= self._old_due:
            self._old_due = now + _OLD_POLL_SECONDS
            for name in [one for one, read_bytes in self._old.items() if self._size_bytes(one) > read_bytes]:
                # Its sandbox lives: it is an old one no longer.
                self._files[name] = self._old.pop(name)
                found += self._read_new(name)
        return found

    def starts_ns(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each of these events was first started, nanoseconds since the epoch; 0: not that is known."""
        found = self._starts[np.minimum(numbers, len(self._starts) - 1)]
        is_known = (numbers < len(self._starts)) & (found != _NONE)
        return np.where(is_known, found, 0).astype(np.int64)

    def _read_new(self, name: str) -> list[int]:
        at = self._files[name]
        # The rest of a record that is half written is read next time.
        if self._size_bytes(name) - at < RECORD.size:
            return []
        found: list[int] = []
        with (self.folder / name).open("rb", buffering=0) as file:
            file.seek(at)
            rest = b""
            while data := file.read(_READ_BYTES):
                rest += data
                whole = len(rest) // RECORD.size * RECORD.size
                found += self._take(np.frombuffer(rest[:whole], dtype="<u8").reshape(-1, _FIELDS))
                rest = rest[whole:]
                at += whole
        self._files[name] = at
        return found

    def _take(self, rows: NDArray[np.uint64]) -> list[int]:
        mine = rows[(rows[:, 0] == self.run) & (rows[:, 1] < MAX_ARRIVALS)]
        if not len(mine):
            return []
        self.records += len(mine)
        ends_ns = mine[:, 3].astype(np.int64)
        self.last_end_ns = max(self.last_end_ns, int(ends_ns.max()))
        self.completed += int(((ends_ns >= self._counted_ns[0]) & (ends_ns < self._counted_ns[1])).sum())
        numbers = mine[:, 1].astype(np.int64)
        if (highest := int(numbers.max())) >= len(self._starts):
            more = max(len(self._starts), highest + 1 - len(self._starts))
            self._starts = np.concatenate([self._starts, np.full(more, _NONE, dtype=np.uint64)])
        np.minimum.at(self._starts, numbers, mine[:, 2])
        return [int(number) for number in numbers]

    def _size_bytes(self, name: str) -> int:
        try:
            return os.stat(self.folder / name).st_size
        except FileNotFoundError:
            # Somebody tidied up; what it held was read or is lost.
            return 0

    def _find_new(self, old_before: float | None = None) -> None:
        """old_before: seconds since the epoch, at first: what is there is not read, and old if unchanged since then."""
        # A new file changes the folder's time; one that grows does not.
        try:
            changed_ns = os.stat(self.folder).st_mtime_ns
        except FileNotFoundError:
            # The fleet's data are gone; what was read of them stays.
            return
        if changed_ns == self._folder_ns:
            return
        self._folder_ns = changed_ns
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name in self._files or entry.name in self._old or not entry.name.endswith(SUFFIX):
                    continue
                if old_before is None:
                    self._add(self._files, entry.name, 0, MAX_FILES)
                    continue
                status = entry.stat()
                read_bytes = status.st_size - status.st_size % RECORD.size
                if status.st_mtime < old_before:
                    self._add(self._old, entry.name, read_bytes, MAX_OLD_FILES)
                else:
                    self._add(self._files, entry.name, read_bytes, MAX_FILES)

    def _add(self, files: dict[str, int], name: str, read_bytes: int, most: int) -> None:
        if len(files) >= most:
            raise TooManyFiles(f"{self.folder} has more than {most:,} files of records: delete the old ones")
        files[name] = read_bytes
