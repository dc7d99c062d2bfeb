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
from typing import Any, NoReturn

from . import api_answers, api_rules, bootstrap, frames, peers
from .api_rules import ASKING, FAILED, READY, RUNNING, STARTING, Call, Ending, Refusal
from .command import Command, NoEntrypoint, end_like, leave_to_wakeup
from .http_requests import MAX_HEAD_BYTES, BadRequest, Request, RequestReader

MAX_CONNECTIONS = 64
_RECEIVE_BYTES = 262_144
_SETUP_FAILED = 70
_REFUSED_LOG_SECONDS = 1.0


class Connection:
    """One client's socket, what it is about to say and what it has yet to read."""

    __slots__ = ("closes", "outbox", "reader", "socket")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.reader = RequestReader(frames.MAX_RESPONSE_BYTES)
        self.outbox = bytearray()
        self.closes = False


class RuntimeApi:
    """The loop between the host's channel and the program's connections."""

    def __init__(
        self, channel: socket.socket, listener: socket.socket, wakeup_fd: int, command: Command, checks_uid_only: bool
    ) -> None:
        """checks_uid_only: whoever has this sandbox's uid is of this sandbox."""
        self._channel = channel
        self._listener = listener
        self._wakeup_fd = wakeup_fd
        self._command = command
        self._checks_uid_only = checks_uid_only
        self._has_own_network = peers.has_own_network()
        self._started = time.monotonic_ns()
        self._assembler = frames.Assembler()
        self._waiting: deque[frames.Invoke] = deque()
        self._is_output_taken = True
        self._phase = STARTING
        self._asking: Connection | None = None
        self._invoke: frames.Invoke | None = None
        self._request_id = ""
        self._run_started_ns = self._run_started = 0
        self._connections: dict[int, Connection] = {}
        self._refused, self._refused_logged = 0, -_REFUSED_LOG_SECONDS
        self._poll = select.poll()
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
                    self._accept()
                elif fd == self._wakeup_fd:
                    status = self._take_signals()
                    if status is not None:
                        self._hear_the_rest()
                        return status
                elif (connection := self._connections.get(fd)) is not None:
                    self._serve(connection, events)

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
        if _is_gone(connection.socket):
            self._drop(connection)
            return
        invoke = self._invoke = self._waiting.popleft()
        self._asking = None
        self._phase = RUNNING
        self._request_id = bootstrap.text_of_id(invoke.request_id)
        self._run_started_ns, self._run_started = time.time_ns(), time.monotonic_ns()
        deadline_ms = self._run_started_ns // 1_000_000 + invoke.timeout_ms
        self._say(
            connection,
            api_answers.invocation(
                self._request_id, deadline_ms, invoke.arn, invoke.trace_header, invoke.client_context, invoke.payload
            ),
        )

    def _end_run(self, ending: Ending) -> None:
        invoke = self._invoke
        assert invoke is not None
        duration_us = (time.monotonic_ns() - self._run_started) // 1_000
        has_output = bootstrap.is_output_waiting()
        self._invoke, self._request_id, self._phase = None, "", READY
        self._is_output_taken = not has_output
        self._channel.sendall(
            frames.pack_result(
                invoke.request_id,
                self._run_started_ns,
                duration_us,
                self._command.max_rss_kb(),
                ending.payload,
                ending.error_type,
                ending.error_message,
                has_output=has_output,
            )
        )

    # --- the program's connections

    def _accept(self) -> None:
        # One at a time: a neighbour that floods the port must not keep the loop from its own client.
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        is_own = self._has_own_network or peers.is_of_this_sandbox(client, self._checks_uid_only)
        if not is_own or len(self._connections) >= MAX_CONNECTIONS:
            client.close()
            self._log_refused("of other processes" if not is_own else f"beyond {MAX_CONNECTIONS}")
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[client.fileno()] = Connection(client)
        self._poll.register(client, select.POLLIN)

    def _serve(self, connection: Connection, events: int) -> None:
        if events & select.POLLOUT:
            self._write(connection)
        if events & ~select.POLLOUT and connection.socket.fileno() >= 0:
            self._receive(connection)

    def _receive(self, connection: Connection) -> bool:
        """Take what came; False: nothing did."""
        try:
            data = connection.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
        elif not connection.closes:
            # What follows the last request of a connection is nobody's.
            connection.reader.feed(data)
            self._read(connection)
        return True

    def _read(self, connection: Connection) -> None:
        """Take the requests that are whole; none while an earlier one of the connection is not answered."""
        reader = connection.reader
        while connection.socket.fileno() >= 0 and not connection.closes:
            if connection is self._asking or connection.outbox:
                if reader.buffered_bytes > MAX_HEAD_BYTES:
                    self._drop(connection)
                return
            try:
                request = reader.next_request()
            except BadRequest as e:
                self._say(
                    connection, api_answers.refusal(e.status, "InvalidRequest", str(e), keeps_alive=False), closes=True
                )
                return
            if request is None:
                if reader.wants_continue:
                    reader.wants_continue = False
                    self._say(connection, api_answers.CONTINUE)
                return
            self._take(connection, request)

    def _take(self, connection: Connection, request: Request) -> None:
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
        self._say(connection, text, closes=not request.keeps_alive)

    def _ask(self, connection: Connection, request: Request) -> None:
        connection.closes = not request.keeps_alive
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
            self._channel.sendall(
                frames.pack_failure(frames.INIT_ERROR, found.error_type, found.error_message, found.payload)
            )
        else:
            self._end_run(api_rules.ending_of(call, request))
        if request.body_bytes > frames.MAX_RESPONSE_BYTES:
            return api_answers.refusal(
                413,
                "RequestEntityTooLarge",
                f"Exceeded maximum allowed payload size ({frames.MAX_RESPONSE_BYTES} bytes).",
                keeps_alive=request.keeps_alive,
            )
        return api_answers.accepted(keeps_alive=request.keeps_alive)

    def _say(self, connection: Connection, text: bytes, closes: bool = False) -> None:
        connection.closes = connection.closes or closes
        try:
            sent = connection.socket.send(text) if not connection.outbox else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent < len(text):
            connection.outbox += text[sent:]
            self._poll.modify(connection.socket, select.POLLIN | select.POLLOUT)
        elif connection.closes:
            self._drop(connection)

    def _write(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.outbox)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        del connection.outbox[:sent]
        if connection.outbox:
            return
        if connection.closes:
            self._drop(connection)
            return
        self._poll.modify(connection.socket, select.POLLIN)
        self._read(connection)

    def _drop(self, connection: Connection) -> None:
        fd = connection.socket.fileno()
        if fd < 0:
            return
        self._poll.unregister(fd)
        del self._connections[fd]
        connection.socket.close()
        if connection is self._asking:
            self._asking = None
            self._phase = READY

    def _log_refused(self, which: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._refused_logged >= _REFUSED_LOG_SECONDS:
            text = f"[evenflow] Runtime API: connections {which} refused: {self._refused}\n"
            self._refused, self._refused_logged = 0, now
            os.write(2, text.encode())

    # --- the program's end

    def _take_signals(self) -> "int | None":
        """Pass on what was sent, reap what ended; the status of the program when it has."""
        for number in os.read(self._wakeup_fd, 4_096):
            if number == signal.SIGTERM:
                self._command.terminate()
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

    def _hear_the_rest(self) -> None:
        """What the program said before it ended still counts."""
        for connection in list(self._connections.values()):
            while connection.socket.fileno() >= 0 and self._receive(connection):
                pass


def _is_gone(client: socket.socket) -> bool:
    """Whether the client has hung up: what it asked for must not be lost on it."""
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def serve(request: "dict[str, Any]") -> NoReturn:
    """Start the request's command and serve it until it or the host ends; never returns."""
    channel = socket.socket(fileno=bootstrap.CHANNEL_FD)
    try:
        status = _serve(channel, request)
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


def _serve(channel: socket.socket, request: "dict[str, Any]") -> int:
    gc.enable()
    wakeup_read, wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, leave_to_wakeup)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(MAX_CONNECTIONS)
    listener.setblocking(False)
    port = listener.getsockname()[1]
    command = Command(request["commands"], {**os.environ, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}"})
    return RuntimeApi(channel, listener, wakeup_read, command, request["uid"] is not None).run()
