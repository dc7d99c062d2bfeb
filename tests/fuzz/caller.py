"""Sends fuzzed requests over a few connections and judges the answers."""

import http.client
import json
import re
import socket
from collections import Counter
from dataclasses import dataclass, field

from services.frontend.lambda_api.api import HANDLERS
from tests.fuzz.requests import FuzzedRequest

ANSWER_SECONDS = 30.0
# Of each connection; more of them are a fault.
MAX_NO_CAPACITY = 10
_RUNS = re.compile(r"/(response-streaming-)?invocations($|\?)|^/_evenflow/url/")


class DoorAtFault(AssertionError):
    """The door answered what it must not, or not at all."""


@dataclass
class Tally:
    """What was answered."""

    statuses: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    # Runs that the hosts had no sandbox for in time: an answer in good order, of a machine that is busy.
    no_capacity: int = 0

    def add(self, other: "Tally") -> None:
        """With another connection's."""
        self.statuses.update(other.statuses)
        self.cut += other.cut
        self.no_capacity += other.no_capacity

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.statuses.values()) + self.cut


class Caller:
    """One connection, opened again whenever the door closes it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self.tally = Tally()

    def send(self, request: FuzzedRequest) -> None:
        """One request and its answer. DoorAtFault."""
        try:
            self._exchange(request, request.encode())
        except (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead):
            self.close()
            # What is no HTTP may be cut; what is must be answered.
            if not request.raw:
                raise DoorAtFault(f"no answer to {request}") from None
            self.tally.cut += 1

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, request: FuzzedRequest, data: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS)
        self._socket.sendall(data)
        if request.raw:
            # It may look like the beginning of a request: nothing more comes.
            self._socket.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(self._socket, method=request.method)
        try:
            answer.begin()
            body = answer.read()
        except TimeoutError:
            raise DoorAtFault(f"no answer within {ANSWER_SECONDS:.0f} s to {request}") from None
        self.tally.statuses[answer.status] += 1
        if answer.status in (503, 504) and _RUNS.search(request.url) and self.tally.no_capacity < MAX_NO_CAPACITY:
            self.tally.no_capacity += 1
        elif answer.status >= 500:
            _judge(request, answer, body)
        if answer.will_close or request.raw:
            self.close()


def _judge(request: FuzzedRequest, answer: http.client.HTTPResponse, body: bytes) -> None:
    kind = answer.getheader("x-amzn-ErrorType")
    if answer.status == 501 and kind == "NotImplementedException":
        # HEAD has no body to look at.
        named = json.loads(body)["message"].partition(" ")[0] if body else ""
        if named not in HANDLERS:
            return
    if answer.status == 502 and kind is None and b"Internal Server Error" in body:
        # A function's own error at its URL.
        return
    raise DoorAtFault(f"{answer.status} {body[:500]!r} to {request}")
