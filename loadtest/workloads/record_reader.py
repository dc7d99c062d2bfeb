"""Reads what handlers left in the bucket's folder, as it grows."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.arrivals.arrivals import MAX_ARRIVALS
from loadtest.workloads.handler import RECORD, SUFFIX

# Sandboxes that ever wrote; each file is kept open, since a closed loop looks every few milliseconds.
MAX_FILES = 8_192
_READ_BYTES = 1 << 22
_FIELDS = RECORD.size // 8
_FIRST_SIZE = 1_024
_NONE = np.iinfo(np.uint64).max


class TooManyFiles(RuntimeError):
    """More than MAX_FILES record files; the message says what to do."""


class RecordReader:
    """The records of one run; use as a context, or close it.

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
        self._files: dict[str, int] = {}
        self._read_bytes: dict[str, int] = {}
        self._folder_ns = -1
        self._find_new()
        for name, file in self._files.items():
            size = os.fstat(file).st_size
            self._read_bytes[name] = size - size % RECORD.size

    def __enter__(self) -> "RecordReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the files go."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def read(self) -> Sequence[int]:
        """What is new: numbers of events whose handler ended, each as often as it did."""
        self._find_new()
        found: list[int] = []
        for name, file in self._files.items():
            at = self._read_bytes.get(name, 0)
            # The rest of a record that is half written is read next time.
            while whole := len(data := os.pread(file, _READ_BYTES, at)) // RECORD.size * RECORD.size:
                at = self._read_bytes[name] = at + whole
                found += self._take(np.frombuffer(data[:whole], dtype="<u8").reshape(-1, _FIELDS))
        return found

    def starts_ns(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """When each of these events was first started, nanoseconds since the epoch; 0: not that is known."""
        found = self._starts[np.minimum(numbers, len(self._starts) - 1)]
        is_known = (numbers < len(self._starts)) & (found != _NONE)
        return np.where(is_known, found, 0).astype(np.int64)

    def _take(self, rows: NDArray[np.uint64]) -> list[int]:
        mine = rows[(rows[:, 0] == self.run) & (rows[:, 1] < MAX_ARRIVALS)]
        if not len(mine):
            return []
        self.records += len(mine)
        self.last_end_ns = max(self.last_end_ns, int(mine[:, 3].max()))
        numbers = mine[:, 1].astype(np.int64)
        if (highest := int(numbers.max())) >= len(self._starts):
            more = max(len(self._starts), highest + 1 - len(self._starts))
            self._starts = np.concatenate([self._starts, np.full(more, _NONE, dtype=np.uint64)])
        np.minimum.at(self._starts, numbers, mine[:, 2])
        return [int(number) for number in numbers]

    def _find_new(self) -> None:
        # A new file changes the folder's time; one that grows does not.
        changed_ns = os.stat(self.folder).st_mtime_ns
        if changed_ns == self._folder_ns:
            return
        self._folder_ns = changed_ns
        for name in os.listdir(self.folder):
            if name in self._files or not name.endswith(SUFFIX):
                continue
            if len(self._files) >= MAX_FILES:
                raise TooManyFiles(f"{self.folder} has more than {MAX_FILES:,} files of records: delete the old ones")
            self._files[name] = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
