"""FrontendService alone, between a fake queue node and a fake runtime host: what its callers may rely on.

What the door decides about an event or an invocation stands in tests/integration/frontend; here is how it behaves as a
peer: streams, deadlines, cancellations, sizes, callers of before and of versions to come. That it reads no further
than 64 unanswered batches: tests/integration/frontend/test_grpc_door.py.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from evenflow.frontend.v1 import frontend_pb2

from services.shared import ids
from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.kit import End, code_of, end_of, name_of, read, refusal_of
from tests.contract.services import serving
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")
ENDS = ("real",)
F = frontend_pb2
Submission = frontend_pb2.EventSubmission


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    async with serving("FrontendService") as found:
        yield found.seen_by(request.param.partition(" by ")[2])


def request_of(batch_id: int, *events: Submission) -> frontend_pb2.PublishRequest:
    """One batch of a stream."""
    return F.PublishRequest(batch_id=batch_id, events=events or [Submission(function_name="echo")])


async def test_a_repeat_under_a_token_is_one_event(end: End) -> None:
    """The first one's id again, and another body is refused, over every call that accepts events."""
    event = Submission(function_name="echo", payload=b"1", client_token=f"{id(end)} {end.client}")
    first = await end.ask("InvokeAsync", F.InvokeAsyncRequest(event=event))
    again = await end.ask("InvokeAsync", F.InvokeAsyncRequest(event=event))
    batch = (await end.ask("PublishBatch", F.PublishBatchRequest(events=[event, event]))).results
    call = end.open("Publish")
    await call.write(request_of(1, event))
    streamed = (await read(call)).results
    call.cancel()
    assert not first.duplicate and again.duplicate and ids.is_derived(first.request_id)
    assert {(r.request_id, r.duplicate) for r in [*batch, *streamed]} == {(first.request_id, True)}
    assert again.request_id == first.request_id
    event.payload = b"2"
    assert await refusal_of(end.ask("InvokeAsync", F.InvokeAsyncRequest(event=event))) == "TOKEN_REUSED"


async def test_an_accepted_event_is_told_of_until_it_is_over(end: End) -> None:
    """To its owner, by the names of the states."""
    made = await end.ask("InvokeAsync", F.InvokeAsyncRequest(event=Submission(function_name="echo")))
    found = await end.ask("GetEvent", F.GetEventRequest(request_id=made.request_id))
    assert (found.state, found.function_name, found.qualifier) == ("available", "echo", "$LATEST")
    assert found.accepted_at_ms < found.expires_at_ms and found.attempts == 0


async def test_every_batch_of_a_stream_is_answered_by_its_id(end: End) -> None:
    """In any order; events by themselves; the stream ends once all are answered after a half-close."""
    call = end.open("Publish")
    for batch_id in (9, 4, 7):
        await call.write(request_of(batch_id, Submission(function_name="echo"), Submission(function_name="nobody")))
    await call.done_writing()
    answers = [await read(call) for _ in range(3)]
    assert {answer.batch_id for answer in answers} == {9, 4, 7} and await end_of(call) == ""
    for answer in answers:
        good, bad = answer.results
        assert len(good.request_id) == 16 and name_of(bad.error) == "FUNCTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (request_of(0), "INVALID_PARAMETER"),
        (F.PublishRequest(batch_id=1), "INVALID_PARAMETER"),
        (request_of(1, *[Submission(function_name="echo")] * 1_001), "INVALID_PARAMETER"),
        (request_of(1, *[Submission(function_name="echo", payload=b"x" * 900_000)] * 5), "REQUEST_TOO_LARGE"),
    ],
    ids=["no id", "empty", "many", "large"],
)
async def test_a_batch_outside_its_bounds_ends_its_stream_alone(
    end: End, sent: frontend_pb2.PublishRequest, expected: str
) -> None:
    """Typed; another stream of the same caller goes on."""
    other, call = end.open("Publish"), end.open("Publish")
    await call.write(sent)
    assert await end_of(call) == expected
    await other.write(request_of(1))
    assert len((await read(other)).results) == 1
    other.cancel()


async def test_a_caller_that_gives_up_is_let_go(end: End) -> None:
    """By its deadline and by cancelling; what runs for it runs on, and the next call is served."""
    host, kept = end.has.runtime, end.has.runtime.behave
    host.behave = lambda _invocation: None
    request = F.InvokeRequest(function_name="echo")
    late = end.stub.Invoke(request, metadata=end.metadata, timeout=0.2)
    assert await late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    ran = len(host.seen)
    call = end.stub.Invoke(request, metadata=end.metadata)
    await eventually(lambda: len(host.seen) > ran, 20)
    call.cancel()
    host.behave = kept
    assert await refusal_of(end.ask("Invoke", request)) == ""
    await eventually(lambda: end.has.frontend.runtimes.in_flight == 0, 20)


async def test_a_message_beyond_grpcs_bound_ends_its_call_alone(end: End) -> None:
    """8 MiB; what is within it and beyond the payload's bound is refused with a type."""
    call = end.open("Publish")
    await call.write(request_of(1, Submission(function_name="echo", payload=b"x" * (9 << 20))))
    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
    large: dict[str, Any] = {"function_name": "echo", "payload": b"x" * ((1 << 20) + 1)}
    assert await refusal_of(end.ask("InvokeAsync", F.InvokeAsyncRequest(event=Submission(**large)))) == (
        "REQUEST_TOO_LARGE"
    )
    assert await refusal_of(end.ask("Invoke", F.InvokeRequest(**large))) == "INVALID_REQUEST_CONTENT"


async def test_fields_of_a_version_to_come_are_passed_over(end: End) -> None:
    """In the request, and in the event; what was known of it is done."""
    event = Submission.FromString(Submission(function_name="echo", payload=b"7").SerializeToString() + UNKNOWN_FIELD)
    request = F.InvokeAsyncRequest(event=event).SerializeToString() + UNKNOWN_FIELD
    made = await end.ask("InvokeAsync", request)
    assert end.has.queue.events[made.request_id].payload == b"7"
