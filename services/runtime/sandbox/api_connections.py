"""The clients of one sandbox's Runtime API: who may connect, what they ask, what they are told. One thread's."""

import os
import select
import socket
import time
from typing import Protocol

from . import api_answers, frames, peers
from .http_requests import MAX_HEAD_BYTES, BadRequest, Request, RequestReader

MAX_CONNECTIONS = 64
_RECEIVE_BYTES = 262_144
_REFUSED_LOG_SECONDS = 1.0


class Connection:
    """One client's socket, what it is about to be told and what it has yet to ask."""

    __slots__ = ("closes", "is_held", "outbox", "reader", "socket")

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.reader = RequestReader(frames.MAX_RESPONSE_BYTES)
        self.outbox = bytearray()
        # Its request is not answered yet: it is told when there is something to tell.
        self.is_held = False
        # After what it is told next it is closed.
        self.closes = False

    @property
    def is_open(self) -> bool:
        """Whether it can be told anything."""
        return self.socket.fileno() >= 0

    def has_hung_up(self) -> bool:
        """Whether the client is gone: what it asked for must not be lost on it."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


class Owner(Protocol):
    """Who answers."""

    def on_request(self, connection: Connection, request: Request) -> None:
        """A whole request; it is answered by `say`, now or later (then `is_held` is set)."""

    def on_lost(self, connection: Connection) -> None:
        """The connection is closed."""


class Connections:
    """All clients, in the poll set of their owner."""

    def __init__(self, listener: socket.socket, poll: "select.poll", owner: Owner, has_own_uid: bool) -> None:
        """has_own_uid: whoever has this sandbox's uid is of this sandbox."""
        self._listener = listener
        self._poll = poll
        self._owner = owner
        self._has_own_uid = has_own_uid
        self._has_own_network = peers.has_own_network()
        self._connections: dict[int, Connection] = {}
        self._refused, self._refused_logged = 0, -_REFUSED_LOG_SECONDS

    def accept(self) -> None:
        """Take one client; the others in later turns, so that a neighbour's flood does not keep out the own one."""
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        is_own = self._has_own_network or peers.is_of_this_sandbox(client, self._has_own_uid)
        if not is_own or len(self._connections) >= MAX_CONNECTIONS:
            client.close()
            self._log_refused("of other processes" if not is_own else f"beyond {MAX_CONNECTIONS}")
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[client.fileno()] = Connection(client)
        self._poll.register(client, select.POLLIN)

    def serve(self, fd: int, events: int) -> None:
        """Read and write what can be."""
        connection = self._connections.get(fd)
        if connection is None:
            return
        if events & select.POLLOUT:
            self._write(connection)
        if events & ~select.POLLOUT and connection.is_open:
            self._receive(connection)

    def hear_the_rest(self) -> None:
        """Take all that came until now."""
        for connection in list(self._connections.values()):
            while connection.is_open and self._receive(connection):
                pass

    def say(self, connection: Connection, text: bytes, closes: bool = False) -> None:
        """Tell a client, in one write if it takes all at once."""
        connection.is_held = False
        connection.closes = connection.closes or closes
        try:
            sent = connection.socket.send(text) if not connection.outbox else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.drop(connection)
            return
        if sent < len(text):
            connection.outbox += text[sent:]
            self._poll.modify(connection.socket, select.POLLIN | select.POLLOUT)
        elif connection.closes:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close it."""
        fd = connection.socket.fileno()
        if fd < 0:
            return
        self._poll.unregister(fd)
        del self._connections[fd]
        connection.socket.close()
        self._owner.on_lost(connection)

    def _receive(self, connection: Connection) -> bool:
        """Take what came; False: nothing did."""
        try:
            data = connection.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
        elif not connection.closes:
            # What follows the last request of a connection is nobody's.
            connection.reader.feed(data)
            self._read(connection)
            if connection.is_open and connection.reader.is_within:
                # A client that writes a request in pieces holds back the next one until this one is acknowledged, which
                # takes 40 ms unless it is done at once. The kernel forgets the wish: it is told each time.
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return True

    def _read(self, connection: Connection) -> None:
        """Pass on the requests that are whole; none while an earlier one of the connection is not answered."""
        reader = connection.reader
        while connection.is_open and not connection.closes:
            if connection.is_held or connection.outbox:
                if reader.buffered_bytes > MAX_HEAD_BYTES:
                    self.drop(connection)
                return
            try:
                request = reader.next_request()
            except BadRequest as e:
                text = api_answers.refusal(e.status, "InvalidRequest", str(e), keeps_alive=False)
                self.say(connection, text, closes=True)
                return
            if request is None:
                if reader.wants_continue:
                    reader.wants_continue = False
                    self.say(connection, api_answers.CONTINUE)
                return
            self._owner.on_request(connection, request)

    def _write(self, connection: Connection) -> None:
        try:
            sent = connection.socket.send(connection.outbox)
        except BlockingIOError:
            return
        except OSError:
            self.drop(connection)
            return
        del connection.outbox[:sent]
        if connection.outbox:
            return
        if connection.closes:
            self.drop(connection)
            return
        self._poll.modify(connection.socket, select.POLLIN)
        self._read(connection)

    def _log_refused(self, which: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._refused_logged >= _REFUSED_LOG_SECONDS:
            text = f"[evenflow] Runtime API: connections {which} refused: {self._refused}\n"
            self._refused, self._refused_logged = 0, now
            os.write(2, text.encode())
