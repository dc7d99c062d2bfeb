"""Faults that come in through the doors: poison, storms, the same token again, requests that nobody would send."""

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
from evenflow.common.v1 import errors_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from tests.faults.matrix import functions
from tests.faults.matrix.cell import Cell
from tests.faults.matrix.history import Sent
from tests.faults.matrix.rig import Rig

REPLAYS = 500
# Numbers of its events, far from the client's.
FIRST_REPLAY = 1_000_000_000
BETWEEN_EVENTS = 500
CALL_SECONDS = 20.0
MAX_ANSWER_BYTES = 65_536
GROWTH_BYTES = 64 << 20
_PATH = f"/2015-03-31/functions/{functions.PLAIN}/invocations"


def _nothing(rig: Rig) -> None:
    """The load itself is the fault."""
    rig.wait_acked(BETWEEN_EVENTS)


# --- the same token again


def _replay(rig: Rig) -> None:
    """The same token again: one event; with another body: refused, and nothing stored."""
    with grpc.insecure_channel(rig.fleet.grpc_address) as channel:
        door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)

        def send(number: int, payload: bytes) -> frontend_pb2.SubmissionResult:
            event = frontend_pb2.EventSubmission(
                function_name=functions.PLAIN, payload=payload, client_token=f"replayed-{number}"
            )
            request = frontend_pb2.PublishBatchRequest(events=[event])
            result: frontend_pb2.SubmissionResult = door.PublishBatch(request, timeout=CALL_SECONDS).results[0]
            return result

        for number in range(FIRST_REPLAY, FIRST_REPLAY + REPLAYS):
            body, other_body = (functions.body(number, functions.SUCCEED, 0, pad) for pad in ("", "other"))
            first, again, other = send(number, body), send(number, body), send(number, other_body)
            if first.HasField("error"):
                rig.broken.append(f"token {number} was refused: {first.error.message}")
                continue
            if again.request_id != first.request_id or not again.duplicate:
                rig.broken.append(f"token {number}: its repeat is another event")
            if other.error.reason != errors_pb2.ERROR_REASON_TOKEN_REUSED:
                rig.broken.append(f"token {number} was taken with another body")
            rig.sent.append(Sent(number, functions.body_hash(body), functions.SUCCEED, 3, first.request_id))
    rig.notes.append(f"{REPLAYS} tokens sent three times each, the third time with another body")


# --- requests that nobody would send


def _hostile_requests() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """What is sent, and the statuses that are right for it: "" is a connection that the door ends."""
    head = f"POST {_PATH} HTTP/1.1\r\nHost: x\r\nX-Amz-Invocation-Type: Event\r\n"
    yield "a header of 1 MiB", f"{head}X-Huge: {'x' * (1 << 20)}\r\n\r\n".encode(), ("431", "400", "")
    many = "".join(f"X-{number}: y\r\n" for number in range(20_000))
    yield "20,000 headers", f"{head}{many}\r\n".encode(), ("431", "400", "")
    yield "a line of 1 MiB", f"GET /{'x' * (1 << 20)} HTTP/1.1\r\n\r\n".encode(), ("414", "431", "400", "")
    large = b"[" + b" " * (7 << 20) + b"]"
    yield "a body of 7 MiB", f"{head}Content-Length: {len(large)}\r\n\r\n".encode() + large, ("413", "")
    promised = f"{head}Content-Length: {1 << 50}\r\n\r\n"
    yield "a body of 1 PiB, promised", promised.encode(), ("413", "400", "")
    deep = b"[" * 100_000 + b"]" * 100_000
    # It is JSON, and a body is the function's: its handler fails on it.
    yield "JSON 100,000 deep", f"{head}Content-Length: {len(deep)}\r\n\r\n".encode() + deep, ("202", "400")
    half = b"[" * 100_000
    yield "JSON that does not end", f"{head}Content-Length: {len(half)}\r\n\r\n".encode() + half, ("400", "202")


def _send_hostile(rig: Rig) -> None:
    pid = rig.fleet.pid_of("frontend-0")
    before = psutil.Process(pid).memory_info().rss
    for _ in range(5):
        for name, data, right in _hostile_requests():
            status = _status_of(rig.fleet.http_port, data)
            if status not in right:
                rig.broken.append(f"{name}: answered {status or 'nothing'}, {' or '.join(right)} would be right")
        _send_oversize_message(rig)
        rig.wait_acked(BETWEEN_EVENTS // 5)
    if rig.fleet.pid_of("frontend-0") != pid:
        rig.broken.append("the frontend ended")
        return
    grown = psutil.Process(pid).memory_info().rss - before
    rig.notes.append(f"the frontend's memory grew by {grown / (1 << 20):.1f} MiB")
    if grown > GROWTH_BYTES:
        rig.broken.append(f"the frontend's memory grew by {grown} bytes")


def _status_of(port: int, data: bytes) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CALL_SECONDS) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                # It has answered already, and takes no more.
                pass
            answer = connection.recv(MAX_ANSWER_BYTES)
    except TimeoutError:
        return "no answer in time"
    except OSError:
        return ""
    return answer.split(b" ")[1].decode() if answer.startswith(b"HTTP/") else ""


def _send_oversize_message(rig: Rig) -> None:
    with grpc.insecure_channel(rig.fleet.grpc_address) as channel:
        door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)
        event = frontend_pb2.EventSubmission(function_name=functions.PLAIN, payload=b"x" * (32 << 20))
        try:
            door.InvokeAsync(frontend_pb2.InvokeAsyncRequest(event=event), timeout=CALL_SECONDS)
        except grpc.RpcError as e:
            code = e.code()
            if code not in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
                rig.broken.append(f"a message of 32 MiB: {code}")
        else:
            rig.broken.append("a message of 32 MiB was taken")


CELLS = (
    Cell("healthy", "every event ends once", _nothing, may_repeat=False),
    Cell(
        "poison",
        "a handler that crashes counts as an attempt and ends in the dead letters; hosts survive",
        _nothing,
        load={"segfaults": 0.05},
        may_repeat=False,
    ),
    Cell(
        "retry-storm",
        "half of all runs fail: back-off with jitter, three runs at most",
        _nothing,
        load={"fails": 0.3, "wavers": 0.5},
        may_repeat=False,
    ),
    Cell("same-token", "one event; with another body: refused", _replay, may_repeat=False),
    Cell("hostile-requests", "typed 4xx or a closed connection; no crash, no growth", _send_hostile, may_repeat=False),
)
