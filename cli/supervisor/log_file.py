"""Logs of the services: each process appends to DATA/logs/NODE.log, the supervisor keeps the files bounded."""

import json
import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 65_536


class LogFile:
    """One service's log; NAME.log.1 is the part before.

    The service writes by itself, with O_APPEND, so that its last words are there even when the supervisor was killed
    first. That is why a full file is copied and cut, not renamed.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._start_offset = 0

    def open(self) -> int:
        """A descriptor for a new process; what it writes is what `last_words` looks at."""
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._start_offset = os.fstat(fd).st_size
        return fd

    def rotate_if_full(self) -> None:
        """Keep the file bounded; lines written during the copy may get lost."""
        try:
            if self.path.stat().st_size < self._max_bytes:
                return
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            os.truncate(self.path, 0)
            self._start_offset = 0
        except OSError:
            return

    def last_words(self) -> str:
        """Why the last process ended, in its own words: its last error, else its last line."""
        try:
            with open(self.path, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._start_offset, end - _TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return last_words_of(lines)


def last_words_of(lines: list[str]) -> str:
    """The last line that tells of an error; without one the last line. Pure."""
    last = ""
    for line in reversed([one.strip() for one in lines if one.strip()]):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict):
            message = str(entry.get("message", ""))
            if entry.get("level") == "error":
                return message.removeprefix("cannot start: ")
            last = last or message
        elif line.startswith("error: "):
            return line.removeprefix("error: ")
        else:
            last = last or line
    return last
