"""The host's end of one sandbox: its process, its channel, its output. What comes out of it is not trusted.

It begins blank: shut in, without a function. `assign` gives it one; from then on it belongs to that function alone.
"""

import asyncio
import os
import signal
import socket
from collections import deque
from typing import Any

from services.runtime.cgroups import Group
from services.runtime.parents import Fork
from services.runtime.runs import Run
from services.runtime.sandbox import frames
from services.runtime.sandbox_output import OutputPipe
from services.runtime.sandbox_owner import Owner, Source

# Reads of one turn, so that a sandbox that floods its output does not keep the loop.
MAX_OUTPUT_READS = 16
OUTPUT_READ_BYTES = 65_536
RECEIVE_BYTES = 262_144
TAIL_BYTES = 4_096
# From the end of the channel to the end of the process; a kill in between would hide how it ended.
EXIT_GRACE_SECONDS = 0.1
MAX_RUNS_LOOKED_AT = 64
# Causes of an end, for who tells why a start failed.
INIT_TIMEOUT, RESTORE_TIMEOUT = "init timeout", "restore timeout"


class Sandbox:
    """One process that runs one handler, one invocation at a time."""

    __slots__ = (
        "_assembler",
        "_channel",
        "_loop",
        "_outbox",
        "_output",
        "_owner",
        "ahead",
        "code_key",
        "deadline_ms",
        "end_cause",
        "function",
        "group",
        "idle_output_bytes",
        "idle_since_ms",
        "init_ended_ns",
        "init_started_ns",
        "init_us",
        "invocations",
        "is_cold",
        "is_provisioned",
        "is_restored",
        "limit_key",
        "max_rss_kb",
        "memory_mb",
        "number",
        "parent",
        "pid",
        "results_behind",
        "run",
        "sandbox_id",
        "seat",
        "seen_rss_kb",
        "state",
        "timer",
    )

    def __init__(self, number: int, host_id: str, owner: Owner, parent: Source, group: Group | None) -> None:
        self.number = number
        self.sandbox_id = f"{host_id}/{number}"
        self.group = group
        self.function: Any = None
        self.code_key = b""
        self.limit_key = ""
        self.memory_mb = 0
        self.is_provisioned = False
        # A fork of a template: init_us is the time it took to restore it.
        self.is_restored = False
        self.seat: Any = None
        self.idle_output_bytes = 0
        self.state = "blank"
        self.pid = 0
        self.run: Run | None = None
        # Sent already, to be run after `run`; each becomes the run when the one before it has ended.
        self.ahead: deque[Run] = deque()
        self.deadline_ms = 0.0
        self.invocations = 0
        # Until it ran something, or was ready before anybody wanted it: the run that finds it so waited for its init.
        self.is_cold = True
        self.init_started_ns = 0
        self.init_ended_ns = 0
        self.init_us = 0
        # Its own word, and what the host saw last; the peaks.
        self.max_rss_kb = 0
        self.seen_rss_kb = 0
        # Frames that came together with the one that is told now, after it.
        self.results_behind = 0
        self.idle_since_ms = 0.0
        self.end_cause = ""
        self.timer: asyncio.TimerHandle | None = None
        self._owner = owner
        self.parent = parent
        self._loop = asyncio.get_running_loop()
        self._assembler = frames.Assembler()
        self._outbox = bytearray()
        self._channel: socket.socket | None = None
        self._output = OutputPipe()

    def start(self) -> None:
        """Have the parent fork it, blank. OSError: it cannot be."""
        ours, theirs = socket.socketpair()
        output_fd = self._output.open()
        try:
            entrances = self.group.entrances if self.group is not None else []
            self.parent.fork(self.number, entrances, theirs, output_fd, Fork(self._on_pid, self._on_exit))
        except BaseException:
            ours.close()
            self._output.close()
            raise
        finally:
            theirs.close()
            os.close(output_fd)
        ours.setblocking(False)
        self._channel = ours
        self._loop.add_reader(ours, self._readable)
        self._output.watch(self._loop, self._output_readable)

    def hand_over(self, owner: Owner) -> None:
        """From now on somebody else is told what it does."""
        self._owner = owner

    def assign(self, function: Any, seat: Any, configuration: bytes, beside_fd: int = -1) -> None:
        """Make it the function's; the configuration is what sandbox/child.py wants. ValueError: that is too large.

        beside_fd: a descriptor that it gets with that, for a template. OSError: its channel takes none.
        """
        frame = frames.pack_configure(configuration)
        self.function, self.seat = function, seat
        self.code_key, self.limit_key = function.code_key, function.limit_key
        self.memory_mb = function.version.memory_mb
        self.state = "starting"
        if beside_fd >= 0:
            if self._channel is None:
                raise ConnectionError("the sandbox is gone")
            # It goes with the first byte.
            socket.send_fds(self._channel, [frame[:1]], [beside_fd])
            frame = frame[1:]
        self.send(frame)

    def send(self, frame: bytes) -> None:
        """Hand it a run, or several."""
        channel = self._channel
        if channel is None:
            return
        if self._outbox:
            self._outbox += frame
            return
        try:
            sent = channel.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It is dying; its end is reported in a moment.
            return
        if sent < len(frame):
            self._outbox += frame[sent:]
            self._loop.add_writer(channel, self._writable)

    def end(self, cause: str, grace_ms: float = 0.0) -> None:
        """Kill it and all it started; on_gone follows. The first cause stays.

        grace_ms: it is asked to end by SIGTERM, and killed when it has not after this time.
        """
        if not self.end_cause:
            self.end_cause = cause
            self.state = "ending"
            self._owner.on_ending(self)
            if grace_ms > 0:
                self.parent.signal(self.number, signal.SIGTERM)
                self._loop.call_later(grace_ms / 1_000, self._kill)
                return
        self._kill()

    def _end_by_itself(self) -> None:
        """Its channel closed: it is ending, and how it ended is told in a moment, unless it only closed the channel."""
        if not self.end_cause:
            self.end_cause = "crashed"
            self.state = "ending"
            self._owner.on_ending(self)
            self._loop.call_later(EXIT_GRACE_SECONDS, self._kill)

    def _kill(self) -> None:
        if self.state != "gone":
            self.parent.signal(self.number, signal.SIGKILL)

    def take_output(self) -> None:
        """Read what it wrote until now."""
        for _ in range(MAX_OUTPUT_READS):
            data = self._output.read(OUTPUT_READ_BYTES)
            if not data:
                return
            self._owner.on_output(self, data)

    def _on_pid(self, pid: int) -> None:
        self.pid = pid

    def _on_exit(self, status: int) -> None:
        # What it sent before it died still counts.
        while self._receive():
            pass
        self.take_output()
        self._close_channel()
        self._output.close()
        self.state = "gone"
        self._owner.on_gone(self, status)

    def _readable(self) -> None:
        self._receive()

    def _receive(self) -> bool:
        channel = self._channel
        if channel is None:
            return False
        try:
            data = channel.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close_channel()
            self._end_by_itself()
            return False
        try:
            found = self._assembler.feed(data)
            self.results_behind = len(found)
            for frame in found:
                self.results_behind -= 1
                self._take(frame)
        except ValueError:
            self._close_channel()
            self.end("broke protocol")
        return True

    def _take(self, frame: bytes) -> None:
        kind = frames.kind_of(frame)
        if kind == frames.RESULT and self.run is not None and self.state == "busy":
            result = frames.parse_result(frame)
            if result.request_id != self.run.invocation.request_id:
                raise ValueError("a result of another request")
            self._owner.on_result(self, result)
        elif kind == frames.READY and self.state == "starting":
            self._owner.on_ready(self, frames.parse_ready(frame))
        elif (kind == frames.INIT_ERROR and self.state == "starting") or (
            kind == frames.FAULT and self.state in ("blank", "starting")
        ):
            failure = frames.parse_failure(frame)
            self._owner.on_start_failed(self, kind, failure)
        elif self.state != "ending":
            raise ValueError("a frame out of turn")

    def _writable(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            sent = channel.send(self._outbox)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._outbox)
        del self._outbox[:sent]
        if not self._outbox:
            self._loop.remove_writer(channel)

    def _output_readable(self) -> None:
        if not self.ahead:
            self.take_output()
            return
        # Whose output is it? What is in the pipe belongs to one run, as a run that was sent ahead begins only after the
        # output of the one before was taken. It is the current one's if that has not ended by the time we have looked.
        for _ in range(MAX_RUNS_LOOKED_AT):
            run, written = self.run, self._output.waiting_bytes
            while self._receive():
                pass
            if self._output.is_closed:
                return
            if self.run is run:
                if written:
                    data = self._output.read(written)
                    if data:
                        self._owner.on_output(self, data)
                elif self._output.is_hung_up:
                    self._output.close()
                return

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._channel.close()
            self._channel = None
