"""Reads when handlers began, by the number of the event."""

import os
from pathlib import Path

from loadtest.fair_share.starts import RECORD, SUFFIX


class StartReader:
    """The starts noted in one folder; files grow, each is read on from where it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._read_bytes: dict[str, int] = {}
        self._starts: dict[int, dict[int, int]] = {}
        # Events that began more than once.
        self.repeated = 0

    def starts(self, phase: int) -> dict[int, int]:
        """Number of the event -> nanoseconds since the epoch, of its first start."""
        for name in os.listdir(self.folder):
            if name.endswith(SUFFIX):
                self._read(name)
        return self._starts.get(phase, {})

    def _read(self, name: str) -> None:
        at = self._read_bytes.get(name, 0)
        with open(self.folder / name, "rb") as file:
            file.seek(at)
            data = file.read()
        whole = len(data) - len(data) % RECORD.size
        self._read_bytes[name] = at + whole
        for phase, number, started_ns in RECORD.iter_unpack(data[:whole]):
            found = self._starts.setdefault(phase, {})
            if number in found:
                self.repeated += 1
            found[number] = min(started_ns, found.get(number, started_ns))
