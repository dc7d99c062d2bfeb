"""Faults that come in through the doors: poison, storms, floods, a destination that is down, the same id again."""

import threading
from typing import Any

import grpc
from evenflow.common.v1 import errors_pb2
from evenflow.frontend.v1 import frontend_pb2, frontend_pb2_grpc

from tests.faults.matrix.cell import Cell
from tests.faults.matrix.rig import Rig

REPLAYS = 500
BETWEEN_EVENTS = 500
CALL_SECONDS = 10.0
NOISY_EVENTS_A_BATCH = 500
NOISY_BATCHES = 30


def _nothing(rig: Rig) -> None:
    """The load itself is the fault."""
    rig.wait_acked(BETWEEN_EVENTS)


def _replay(rig: Rig) -> None:
    """The same token again: one event; with another body: refused, and nothing stored."""
    with grpc.insecure_channel(rig.fleet.grpc_address) as channel:
        door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)

        def send(number: int, payload: bytes) -> frontend_pb2.SubmissionResult:
            event = frontend_pb2.EventSubmission(
                function_name="probe-free", payload=payload, client_token=f"replayed-{number}"
            )
            request = frontend_pb2.PublishBatchRequest(events=[event])
            result: frontend_pb2.SubmissionResult = door.PublishBatch(request, timeout=CALL_SECONDS).results[0]
            return result

        for number in range(REPLAYS):
            first, again = send(number, b"1"), send(number, b"1")
            other = send(number, b"2")
            if again.request_id != first.request_id or not again.duplicate:
                rig.broken.append(f"token {number}: its repeat is another event")
            if other.error.reason != errors_pb2.ERROR_REASON_TOKEN_REUSED:
                rig.broken.append(f"token {number} was taken with another body: {other}")
    rig.notes.append(f"{REPLAYS} tokens sent three times")


def _flood(rig: Rig) -> None:
    """Another tenant sends as fast as it can, of a function that has less room than it wants."""
    key = rig.fleet.new_key("noisy")
    errors: list[Exception] = []

    def send() -> None:
        try:
            with grpc.insecure_channel(rig.fleet.grpc_address) as channel:
                door: Any = frontend_pb2_grpc.FrontendServiceStub(channel)
                event = frontend_pb2.EventSubmission(function_name="noise", payload=b"{}")
                request = frontend_pb2.PublishBatchRequest(events=[event] * NOISY_EVENTS_A_BATCH)
                for _ in range(NOISY_BATCHES):
                    metadata = (("authorization", f"Bearer {key[0]}:{key[1]}"),)
                    door.PublishBatch(request, timeout=CALL_SECONDS, metadata=metadata)
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=send)
    thread.start()
    rig.wait_acked(2 * BETWEEN_EVENTS)
    thread.join(NOISY_BATCHES * CALL_SECONDS)
    rig.broken += [f"the noisy tenant: {one}" for one in errors]


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
)
