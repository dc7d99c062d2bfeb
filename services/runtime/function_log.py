"""One log file a function: bounded, rotated, written in batches, followed by readers.

What sandboxes write and the host's own lines are told apart: no output makes a line that looks like the host's.
"""

import asyncio
import os
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from weakref import WeakValueDictionary

from services.runtime import log_lines

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FLUSH_SECONDS = 0.05
FLUSH_BYTES = 262_144
READ_BYTES = 65_536
# Files open at once; a log beyond that is opened again when it is written to.
MAX_OPEN_LOGS = 128


class FunctionLog:
    """Appends from the loop; a full file becomes NAME.log.1 in place of the one before."""

    def __init__(
        self, path: Path, max_bytes: int, on_open: Callable[["FunctionLog"], None] = lambda _log: None
    ) -> None:
        self.path = path
        self.generation = 0
        self._max_bytes = max_bytes
        self._on_open = on_open
        # How the line that is written now begins; None: not looked at yet, the file may be of an earlier start.
        self._begun: bytes | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushed = asyncio.Event()
        self._fd = -1
        self._size = 0

    def append(self, lines: bytes) -> None:
        """Take whole lines of the host's, on lines of their own; on disk within 50 ms."""
        if self._begun is None:
            self._begun = self._line_left_open()
        self._take(b"\n" + lines if self._begun else lines)
        self._begun = b""

    def append_output(self, output: bytes) -> None:
        """Take what a sandbox wrote, lines or parts of them."""
        if self._begun is None:
            self._begun = self._line_left_open()
        self._take(log_lines.told_apart(self._begun, output))
        self._begun = log_lines.line_begun(self._begun, output)

    def _take(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what is pending. A full disk loses log lines, never invocations."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            return
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        try:
            self._open()
            if self._size and self._size + len(data) > self._max_bytes:
                self._rotate()
            self._size += os.write(self._fd, data)
        except OSError:
            self.close()
        flushed, self._flushed = self._flushed, asyncio.Event()
        flushed.set()

    def close(self) -> None:
        """Let the file go; a later append opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def tail(self, lines: int) -> bytes:
        """The last lines, of the file and the one before it."""
        self.flush()
        text = b""
        for path in (self.path, self._previous):
            if text.count(b"\n") > lines:
                break
            text = _read_tail(path, lines) + text
        return _last_lines(text, lines)

    def position(self) -> tuple[int, int]:
        """Where the log ends now, for `follow`."""
        self.flush()
        return self.generation, self._current_size()

    async def follow(self, position: tuple[int, int]) -> AsyncIterator[bytes]:
        """What is appended after that position, until the caller stops asking."""
        generation, offset = position
        while True:
            flushed = self._flushed
            if generation != self.generation:
                rest = _read_at(self._previous, offset) if generation + 1 == self.generation else b""
                generation, offset = self.generation, 0
                if rest:
                    yield rest
            data = _read_at(self.path, offset)
            if data:
                offset += len(data)
                yield data
            else:
                await flushed.wait()

    @property
    def _previous(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def _current_size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _open(self) -> None:
        if self._fd < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._size = os.fstat(self._fd).st_size
            self._on_open(self)

    def _line_left_open(self) -> bytes:
        """How the file's last line begins if it has no end: whatever it is, it is nothing to go on with."""
        last = _read_at(self.path, max(0, self._current_size() - 1))
        return b"" if last in (b"", b"\n") else b"?" * log_lines.LONGEST_BEGINNING_BYTES

    def _rotate(self) -> None:
        self.close()
        self.path.replace(self._previous)
        self.generation += 1
        self._open()


class FunctionLogs:
    """Every function's log on this host; one that nobody holds or writes to is forgotten, its file stays."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._logs: WeakValueDictionary[tuple[str, str], FunctionLog] = WeakValueDictionary()
        # Open files, the one that was opened longest ago first.
        self._open: OrderedDict[FunctionLog, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logs)

    def of(self, tenant_id: str, function_name: str) -> FunctionLog:
        """The function's log. ValueError: no name of a tenant or function."""
        key = tenant_id, function_name
        log = self._logs.get(key)
        if log is None:
            if not _NAME.fullmatch(tenant_id) or not _NAME.fullmatch(function_name):
                raise ValueError("tenant_id and function_name are 1 to 64 characters of [A-Za-z0-9_-]")
            path = self._folder / tenant_id / f"{function_name}.log"
            log = self._logs[key] = FunctionLog(path, self._max_bytes, self._opened)
        return log

    def close(self) -> None:
        """Write everything and close."""
        for log in list(self._logs.values()):
            log.flush()
            log.close()
        self._open.clear()

    def _opened(self, log: FunctionLog) -> None:
        self._open[log] = None
        self._open.move_to_end(log)
        if len(self._open) > MAX_OPEN_LOGS:
            oldest, _ = self._open.popitem(last=False)
            oldest.close()


def _last_lines(text: bytes, lines: int) -> bytes:
    """Lines end with a newline, whatever else a handler wrote: a tail must not begin in the middle of one."""
    if not lines:
        return b""
    body, end = (text[:-1], b"\n") if text.endswith(b"\n") else (text, b"")
    return b"\n".join(body.split(b"\n")[-lines:]) + end


def _read_at(path: Path, offset: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(READ_BYTES)
    except FileNotFoundError:
        return b""


def _read_tail(path: Path, lines: int) -> bytes:
    """The end of a file with at least so many lines, if it has them."""
    try:
        with open(path, "rb") as file:
            position = file.seek(0, os.SEEK_END)
            text = b""
            while position > 0 and text.count(b"\n") <= lines:
                step = min(READ_BYTES, position)
                position -= step
                file.seek(position)
                text = file.read(step) + text
            return text
    except FileNotFoundError:
        return b""
