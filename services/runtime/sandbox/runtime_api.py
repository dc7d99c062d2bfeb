"""AWS's Lambda Runtime API, served inside the sandbox to the program that runs the function.

To the host this process is a sandbox like any other: it speaks frames on its channel. Towards the program it is the
HTTP server of AWS_LAMBDA_RUNTIME_API. One thread, no locks: the loop does whatever is next.
"""

import gc
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from . import api_answers, api_rules, bootstrap, frames, linux
from .api_connections import MAX_CONNECTIONS, Connection, Connections
from .api_rules import ASKING, FAILED, READY, RUNNING, STARTING, Call, Ending, Refusal
from .command import Command, NoEntrypoint, end_like, leave_to_wakeup
from .http_requests import Request

_RECEIVE_BYTES = 262_144
_SETUP_FAILED = 70


class RuntimeApi:
    """The loop between the host's channel and the program's connections."""

    def __init__(
        self, channel: socket.socket, listener: socket.socket, wakeup_fd: int, command: Command, has_own_uid: bool
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._wakeup_fd = wakeup_fd
        self._command = command
        self._started = time.monotonic_ns()
        self._assembler = frames.Assembler()
        self._waiting: deque[frames.Invoke] = deque()
        self._is_output_taken = True
        self._phase = STARTING
        self._asking: Connection | None = None
        self._invoke: frames.Invoke | None = None
        self._request_id = ""
        self._run_started_ns = self._run_started = 0
        self._poll = select.poll()
        self._clients = Connections(listener, self._poll, self, has_own_uid)
        for fd in (channel.fileno(), listener.fileno(), wakeup_fd):
            self._poll.register(fd, select.POLLIN)

    def run(self) -> int:
        """Serve until the host closes the channel (0), or the program ended: its status as wait(2) gives it."""
        channel_fd, listener_fd = self._channel.fileno(), self._listener.fileno()
        while True:
            for fd, events in self._poll.poll():
                if fd == channel_fd:
                    if not self._take_frames():
                        return 0
                elif fd == listener_fd:
                    self._clients.accept()
                elif fd != self._wakeup_fd:
                    self._clients.serve(fd, events)
                elif (status := self._take_signals()) is not None:
                    # What the program said before it ended still counts.
                    self._clients.hear_the_rest()
                    return status

    # --- the host

    def _take_frames(self) -> bool:
        data = self._channel.recv(_RECEIVE_BYTES)
        if not data:
            return False
        for frame in self._assembler.feed(data):
            if frames.kind_of(frame) == frames.GO:
                self._is_output_taken = True
            else:
                self._waiting.append(frames.parse_invoke(frame))
        self._hand_out()
        return True

    def _hand_out(self) -> None:
        """Give the run that is next to the client that asks."""
        connection = self._asking
        if connection is None or not self._waiting or (self._waiting[0].is_ahead and not self._is_output_taken):
            return
        if connection.has_hung_up():
            self._clients.drop(connection)
            return
        invoke = self._invoke = self._waiting.popleft()
        self._asking, self._phase = None, RUNNING
        self._request_id = bootstrap.text_of_id(invoke.request_id)
        self._run_started_ns, self._run_started = time.time_ns(), time.monotonic_ns()
        deadline_ms = self._run_started_ns // 1_000_000 + invoke.timeout_ms
        text = api_answers.invocation(
            self._request_id, deadline_ms, invoke.arn, invoke.trace_header, invoke.client_context, invoke.payload
        )
        self._clients.say(connection, text)

    def _end_run(self, ending: Ending) -> None:
        invoke = self._invoke
        assert invoke is not None
        duration_us = (time.monotonic_ns() - self._run_started) // 1_000
        has_output = bootstrap.is_output_waiting()
        self._invoke, self._request_id, self._phase = None, "", READY
        self._is_output_taken = not has_output
        result = frames.pack_result(
            invoke.request_id,
            self._run_started_ns,
            duration_us,
            self._command.max_rss_kb(),
            ending.payload,
            ending.error_type,
            ending.error_message,
            has_output=has_output,
        )
        self._channel.sendall(result)

    # --- the program's calls; Connections.Owner

    def on_request(self, connection: Connection, request: Request) -> None:
        """Do what is asked for, or say why not."""
        call = api_rules.call_of(request)
        refusal = call if isinstance(call, Refusal) else api_rules.refusal_of(call, self._phase, self._request_id)
        if refusal is not None:
            text = api_answers.refusal(*refusal, keeps_alive=request.keeps_alive)
        else:
            assert isinstance(call, Call)
            if call.name == "next":
                self._ask(connection, request)
                return
            text = self._settle(call, request)
        self._clients.say(connection, text, closes=not request.keeps_alive)

    def on_lost(self, connection: Connection) -> None:
        """Whoever asks next gets the run that this one would have got."""
        if connection is self._asking:
            self._asking, self._phase = None, READY

    def _ask(self, connection: Connection, request: Request) -> None:
        connection.is_held, connection.closes = True, not request.keeps_alive
        self._asking = connection
        if self._phase == STARTING:
            init_us = (time.monotonic_ns() - self._started) // 1_000
            self._channel.sendall(frames.pack_ready(init_us, self._command.max_rss_kb()))
        self._phase = ASKING
        self._hand_out()

    def _settle(self, call: Call, request: Request) -> bytes:
        if call.name == "init/error":
            found = api_rules.error_of(request.body, request.headers.get(api_rules.ERROR_TYPE_HEADER, ""))
            self._phase = FAILED
            self._fail(found)
        else:
            self._end_run(api_rules.ending_of(call, request))
        if request.body_bytes > frames.MAX_RESPONSE_BYTES:
            text = f"Exceeded maximum allowed payload size ({frames.MAX_RESPONSE_BYTES} bytes)."
            return api_answers.refusal(413, "RequestEntityTooLarge", text, keeps_alive=request.keeps_alive)
        return api_answers.accepted(keeps_alive=request.keeps_alive)

    def _fail(self, error: Ending) -> None:
        self._channel.sendall(
            frames.pack_failure(frames.INIT_ERROR, error.error_type, error.error_message, error.payload)
        )

    # --- the program's end

    def _take_signals(self) -> "int | None":
        """Reap what ended; the status of the program when it has."""
        os.read(self._wakeup_fd, 4_096)
        found = None
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return found
            if pid == 0:
                return found
            if pid == self._command.pid:
                found = status


def serve(request: "dict[str, Any]", enforce: "Callable[[], None]") -> NoReturn:
    """Start the request's command under what `enforce` enforces, serve it until it or the host ends; never returns."""
    channel = socket.socket(fileno=bootstrap.CHANNEL_FD)
    try:
        status = _serve(channel, request, enforce)
    except NoEntrypoint as e:
        found = api_rules.plain_error("Runtime.InvalidEntrypoint", str(e))
        os.write(2, f"{e}\n{found.error_type}\n".encode())
        channel.sendall(frames.pack_failure(frames.INIT_ERROR, found.error_type, found.error_message, found.payload))
        os._exit(1)
    except BaseException as e:
        text = f"the Runtime API cannot be served: {type(e).__name__}: {e}"
        channel.sendall(frames.pack_failure(frames.FAULT, "Runtime.SandboxFault", text, b""))
        os._exit(_SETUP_FAILED)
    end_like(status)


def _serve(channel: socket.socket, request: "dict[str, Any]", enforce: "Callable[[], None]") -> int:
    gc.enable()
    # The program has this process's uid: it must not look into it, nor use its descriptors.
    linux.prctl(linux.PR_SET_DUMPABLE, 0)
    wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, leave_to_wakeup)
    # It comes to the program, too; this process ends when that has.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(MAX_CONNECTIONS)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    environment = {**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"}
    command = Command(request["commands"], environment, enforce)
    return RuntimeApi(channel, listener, wakeup_read, command, request["uid"] is not None).run()
