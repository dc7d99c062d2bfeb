"""The host's end of one template: a sandbox of a function that loaded the handler once, and forks; see ADR 14."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.runtime import watch
from services.runtime.fork_tmps import ForkTmps
from services.runtime.functions import HostedFunction
from services.runtime.parents import PreparedParent
from services.runtime.sandbox import frames, snapshot
from services.runtime.sandboxes import INIT_TIMEOUT, Sandbox
from services.runtime.seats import Seat
from services.runtime.template_forks import TemplateFork

# Forks that did not even say hello; then it is of no use.
MAX_LOST_IN_A_ROW = 3
log = logging.getLogger(__name__)


class Template:
    """Owner of the template's own sandbox. `idle_since_ms`: since when none of its forks is used.

    on_ending: no further forks; once, before on_gone: nothing of it or of its forks is left. max_output_bytes: of what
    loading the handler writes to the log.
    """

    def __init__(
        self,
        function: HostedFunction,
        parent: PreparedParent,
        sandbox: Sandbox,
        seat: Seat,
        tmps: ForkTmps,
        max_output_bytes: int,
        on_ending: Callable[["Template"], None],
        on_gone: Callable[["Template"], None],
        now_ms: Callable[[], float],
    ) -> None:
        self.function = function
        self.code_key = function.code_key
        self.sandbox = sandbox
        self.seat = seat
        self.memory_mb = function.version.memory_mb
        self.is_ready = False
        self.is_ending = False
        self.idle_since_ms = now_ms()
        # Set when it is ready, or gone: then `failure` is the function's word why, `status` that of wait(2).
        self.settled = asyncio.Event()
        self.failure: frames.Failure | None = None
        self.status = -1
        self.is_crashed = False
        self._parent = parent
        self._tmps = tmps
        self._output_room_bytes = max_output_bytes
        self._on_ending = on_ending
        self._on_gone = on_gone
        self._now_ms = now_ms
        self._is_gone = False
        self._lost_in_a_row = 0
        self._forks: dict[int, TemplateFork] = {}
        self._control: socket.socket | None = None
        self._emptying: set[asyncio.Task[None]] = set()

    def start(self, request: Mapping[str, Any], init_seconds: float) -> None:
        """Load the handler. OSError, ValueError: it cannot be started, see Sandbox.assign."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                configuration = json.dumps({**request, "fork_tmps": self._tmps.paths}).encode()
                self.sandbox.assign(self.function, self.seat, configuration, theirs.fileno())
            except (OSError, ValueError):
                ours.close()
                raise
        self._control = ours
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._readable)
        self.sandbox.timer = loop.call_later(init_seconds, self.sandbox.end, INIT_TIMEOUT)

    @property
    def pid(self) -> int:
        """Its process."""
        return self.sandbox.pid

    @property
    def used_forks(self) -> int:
        """Those that have been given their function."""
        return sum(fork.is_used for fork in self._forks.values())

    @property
    def entrances(self) -> Sequence[str]:
        """Of its cgroup, in which its forks begin."""
        return self.sandbox.group.entrances if self.sandbox.group is not None else ()

    def take_fork(self) -> TemplateFork | None:
        """A further one, to be asked for; None: it has snapshot.MAX_FORKS."""
        seat = self._tmps.take()
        return TemplateFork(self, seat) if seat is not None else None

    def free(self, fork: TemplateFork) -> None:
        """The fork's /tmp may be another's, once it is empty."""
        task = asyncio.create_task(asyncio.to_thread(self._tmps.give_back, fork.seat.tmp_dir), name="empty /tmp")
        self._emptying.add(task)
        task.add_done_callback(self._emptying.discard)

    def end(self, cause: str) -> None:
        """End it, with all its forks."""
        self.sandbox.end(cause)

    async def remove(self) -> None:
        """The folders of its forks; after on_gone."""
        await asyncio.gather(*self._emptying, return_exceptions=True)
        await asyncio.to_thread(self._tmps.remove)

    # --- what a fork needs

    def ask_view(self, tmp_dir: str, reply: socket.socket) -> None:
        """See PreparedParent.make_view."""
        self._parent.make_view(self.sandbox.number, tmp_dir, reply)

    def ask_fork(self, number: int, fds: Sequence[int]) -> None:
        """See sandbox/snapshot.py. OSError: it is gone."""
        if self._control is None:
            raise ConnectionError("the template is gone")
        socket.send_fds(self._control, [json.dumps({"fork": number}).encode()], list(fds))

    def on_fork_begun(self, number: int, fork: TemplateFork) -> None:
        """It is being made."""
        self._forks[number] = fork

    def on_fork_gone(self, number: int, *, was_admitted: bool) -> None:
        """Nothing of it is left. was_admitted: it came as far as its cgroup."""
        self._forks.pop(number, None)
        self._lost_in_a_row = 0 if was_admitted else self._lost_in_a_row + 1
        if self._lost_in_a_row >= MAX_LOST_IN_A_ROW:
            # Whatever it is in the handler's module: forks of it do not live.
            self.sandbox.end("crashed")
        self.idle_since_ms = self._now_ms()
        self._look_gone()

    # --- what its sandbox tells; Sandbox.Owner

    def on_ready(self, sandbox: Sandbox, _ready: frames.Ready) -> None:
        """The handler is loaded."""
        self._stop_timer()
        sandbox.state = "template"
        self.is_ready = True
        self.idle_since_ms = self._now_ms()
        self.settled.set()

    def on_start_failed(self, sandbox: Sandbox, kind: int, failure: frames.Failure) -> None:
        """Its own words for why."""
        if kind == frames.INIT_ERROR:
            self.failure = failure
        else:
            # The machine's fault, or so it says.
            self.is_crashed = True
            text = failure.error_message.decode(errors="replace")
            log.error("a template cannot be made: %s", text, extra={"function_name": self.function.key[1]})
        sandbox.end("start failed")

    def on_result(self, sandbox: Sandbox, result: frames.Result) -> None:
        """It runs nothing."""

    def on_output(self, _sandbox: Sandbox, data: bytes) -> None:
        """What loading the handler wrote, and what is left of it in the background."""
        room = self._output_room_bytes
        self._output_room_bytes -= len(data)
        if room > 0:
            self.function.log.append_output(data[:room])

    def on_ending(self, _sandbox: Sandbox) -> None:
        """No further forks."""
        self._say_ending()

    def on_gone(self, _sandbox: Sandbox, status: int) -> None:
        """Its forks died with it: they are of its PID namespace."""
        self._stop_timer()
        self.status = status
        if self.is_ready and self.sandbox.end_cause in ("", "crashed", "broke protocol", watch.MEMORY, watch.DISK):
            self.is_crashed = True
        self.is_ready = False
        self._say_ending()
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self._control = None
        for fork in list(self._forks.values()):
            fork.on_template_gone()
        self._look_gone()

    def _say_ending(self) -> None:
        if not self.is_ending:
            self.is_ending = True
            self._on_ending(self)

    def _look_gone(self) -> None:
        if self.sandbox.state == "gone" and not self._forks and not self._is_gone:
            self._is_gone = True
            self._on_gone(self)

    def _stop_timer(self) -> None:
        if self.sandbox.timer is not None:
            self.sandbox.timer.cancel()
            self.sandbox.timer = None

    def _readable(self) -> None:
        assert self._control is not None
        try:
            packet = self._control.recv(snapshot.MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            # Its end, or an end of its own making: either way it is of no use any more.
            asyncio.get_running_loop().remove_reader(self._control)
            self.sandbox.end("crashed")
            return
        try:
            word = json.loads(packet)
            number, status = int(word["ended"]), int(word["status"])
        except (ValueError, KeyError, TypeError, RecursionError):
            log.warning("a template does not keep to its protocol", extra={"function_name": self.function.key[1]})
            self.sandbox.end("broke protocol")
            return
        fork = self._forks.get(number)
        if fork is not None:
            fork.on_status(status if snapshot.is_plausible(status) else -1)
