"""The host's end of what a sandbox writes to stdout and stderr."""

import asyncio
import fcntl
import os
import select
import struct
import termios
from collections.abc import Callable


class OutputPipe:
    """One pipe; closed until `open` and from its end on."""

    __slots__ = ("_fd", "_loop")

    def __init__(self) -> None:
        self._fd = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> int:
        """Make it; returns the end to write to, which the caller closes. OSError: it cannot be made."""
        self._fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        return write_fd

    def watch(self, loop: asyncio.AbstractEventLoop, on_readable: Callable[[], None]) -> None:
        """Call this whenever something can be read."""
        self._loop = loop
        loop.add_reader(self._fd, on_readable)

    @property
    def is_closed(self) -> bool:
        """Whether nothing can come any more."""
        return self._fd < 0

    @property
    def waiting_bytes(self) -> int:
        """What can be read now."""
        return int(struct.unpack("i", fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)))[0])

    @property
    def is_hung_up(self) -> bool:
        """Whether all who could write are gone and nothing is left to read."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return any(events == select.POLLHUP for _, events in poll.poll(0))

    def read(self, size: int) -> bytes:
        """At most so many bytes of what was written; empty: nothing is there now, or its end, which closes it."""
        if self._fd < 0:
            return b""
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.close()
        return data

    def close(self) -> None:
        """Read no more. Safe to call twice."""
        if self._fd >= 0:
            if self._loop is not None:
                self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
