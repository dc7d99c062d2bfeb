"""RuntimeService.Invoke and what is read of a host: a host of sandboxes, and the fake that plays one."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from evenflow.common.v1 import event_pb2
from evenflow.runtime.v1 import runtime_pb2

from services.shared import ids
from tests.contract.clients import UNKNOWN_FIELD
from tests.contract.kit import End, code_of, end_of, name_of, read
from tests.contract.messages import now_ms
from tests.contract.services import serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
S = event_pb2.OutcomeStatus
FAILED = event_pb2.Outcome(
    status=S.OUTCOME_STATUS_FUNCTION_ERROR,
    response_payload=b'{"errorMessage": "no", "errorType": "ValueError"}',
    error_type="ValueError",
    error_message="no",
    executed_version="$LATEST",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def end(request: pytest.FixtureRequest) -> AsyncIterator[End]:
    kind, _, client = request.param.partition(" by ")
    async with serving("RuntimeService", kind) as found:
        if kind == "fake":
            plain = found.has.behave

            def behave(invocation: runtime_pb2.Invocation) -> event_pb2.Outcome | None:
                if invocation.function_name == "waits":
                    return None
                outcome: event_pb2.Outcome | None = FAILED if invocation.function_name == "fails" else plain(invocation)
                return outcome

            found.has.behave = behave
        yield found.seen_by(client)


def invocation(number: int, name: str = "echo", payload: bytes = b'{"a": 1}', **more: Any) -> runtime_pb2.Invocation:
    """One run; the fields that a caller always sets."""
    fields = {
        "tenant_id": "default",
        "version": "$LATEST",
        "request_id": ids.mint(now_ms(), 0),
        "attempt": 1,
        "kind": runtime_pb2.INVOCATION_KIND_SYNC,
        **more,
    }
    return runtime_pb2.Invocation(invocation_id=number, function_name=name, payload=payload, **fields)


async def hello(end: End) -> tuple[Any, runtime_pb2.InvokeResponse]:
    """A stream that has said hello, and the host's first message."""
    call = end.open("Invoke")
    await call.write(runtime_pb2.InvokeRequest(hello=runtime_pb2.InvokeHello(caller_id="poller-0", incarnation="a")))
    return call, await read(call)


async def send(call: Any, *invocations: runtime_pb2.Invocation) -> None:
    """One batch."""
    await call.write(runtime_pb2.InvokeRequest(batch=runtime_pb2.InvocationBatch(invocations=invocations)))


async def results(call: Any, count: int) -> tuple[dict[int, event_pb2.Outcome], int]:
    """Outcomes by invocation, and the credit that came with them."""
    found: dict[int, event_pb2.Outcome] = {}
    credit = 0
    while len(found) < count:
        message = await read(call)
        credit += message.credit_invocations
        for result in message.results:
            assert result.invocation_id not in found
            found[result.invocation_id] = result.outcome
    return found, credit


async def test_the_first_message_of_the_host_grants_credit_and_tells_its_room(end: End) -> None:
    call, first = await hello(end)
    assert first.credit_invocations > 0 and first.load.slots > 0 and not first.results
    call.cancel()


async def test_outcomes_come_back_by_id_and_their_credit_with_them(end: End) -> None:
    """A handler's own error is an outcome like any other."""
    call, _ = await hello(end)
    await send(call, invocation(7), invocation(9, "fails"))
    await send(call, invocation(8, payload=b"3"))
    found, credit = await results(call, 3)
    assert found[7].status == found[8].status == S.OUTCOME_STATUS_SUCCEEDED
    assert (found[8].response_payload, found[7].executed_version) == (b"3", "$LATEST")
    failed = found[9]
    assert (failed.status, failed.error_type, failed.error_message) == (FAILED.status, "ValueError", "no")
    assert not failed.HasField("refusal") and credit == 3
    call.cancel()


async def test_after_a_half_close_what_runs_is_answered(end: End) -> None:
    """Then the stream ends clean."""
    call, _ = await hello(end)
    await send(call, *(invocation(number) for number in range(1, 6)))
    await call.done_writing()
    found, _ = await results(call, 5)
    assert set(found) == {1, 2, 3, 4, 5} and await end_of(call) == ""


async def test_more_than_the_credit_is_refused_one_by_one(end: End) -> None:
    """CREDIT_EXCEEDED in the outcome; what was within it runs."""
    call, first = await hello(end)
    granted = first.credit_invocations
    await send(call, *(invocation(number) for number in range(1, granted + 3)))
    found, _ = await results(call, granted + 2)
    refused = [n for n, outcome in found.items() if outcome.HasField("refusal")]
    assert refused == [granted + 1, granted + 2]
    for number in refused:
        assert found[number].status == S.OUTCOME_STATUS_SYSTEM_ERROR
        assert name_of(found[number].refusal) == "CREDIT_EXCEEDED"
    call.cancel()


@pytest.mark.parametrize(
    "bad",
    [{"number": 0}, {"request_id": b"short"}, {"payload": b"x" * ((6 << 20) + 1)}],
    ids=["no id", "short request id", "large payload"],
)
async def test_an_invocation_that_breaks_its_bounds_is_refused_alone(end: End, bad: dict[str, Any]) -> None:
    call, _ = await hello(end)
    await send(call, invocation(**{"number": 5, **bad}), invocation(6))
    found, _ = await results(call, 2)
    assert found[6].status == S.OUTCOME_STATUS_SUCCEEDED
    (refused,) = [outcome for number, outcome in found.items() if number != 6]
    assert refused.status == S.OUTCOME_STATUS_SYSTEM_ERROR and name_of(refused.refusal) == "INVALID_PARAMETER"
    call.cancel()


@pytest.mark.parametrize("opening", ["batch first", "nothing known"])
async def test_what_does_not_begin_with_hello_is_refused(end: End, opening: str) -> None:
    call = end.open("Invoke")
    if opening == "batch first":
        await send(call, invocation(1))
    else:
        await call.write(UNKNOWN_FIELD)
    assert await end_of(call) == "INVALID_PARAMETER"


async def test_unknown_fields_are_passed_over(end: End) -> None:
    """In the message and in the invocation."""
    call, _ = await hello(end)
    more = runtime_pb2.Invocation.FromString(invocation(1).SerializeToString() + UNKNOWN_FIELD)
    request = runtime_pb2.InvokeRequest(batch=runtime_pb2.InvocationBatch(invocations=[more]))
    await call.write(request.SerializeToString() + UNKNOWN_FIELD)
    found, _ = await results(call, 1)
    assert found[1].status == S.OUTCOME_STATUS_SUCCEEDED
    call.cancel()


async def test_a_caller_that_goes_away_leaves_the_others_alone(end: End) -> None:
    """By a cancelled stream and by a deadline; a new stream has its credit anew."""
    call, first = await hello(end)
    await send(call, invocation(1, "waits", b"0.2"))
    call.cancel()
    late = end.stub.Invoke(metadata=end.metadata, timeout=0.05)
    assert await code_of(late) is grpc.StatusCode.DEADLINE_EXCEEDED
    call, again = await hello(end)
    assert again.credit_invocations == first.credit_invocations
    await send(call, invocation(1))
    found, _ = await results(call, 1)
    assert found[1].status == S.OUTCOME_STATUS_SUCCEEDED
    call.cancel()


async def test_a_message_beyond_grpcs_bound_ends_its_stream_alone(end: End) -> None:
    call, _ = await hello(end)
    other, _ = await hello(end)
    await send(call, *(invocation(number, payload=b"x" * 3_000_000) for number in (1, 2, 3)))
    assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
    await send(other, invocation(1))
    found, _ = await results(other, 1)
    assert found[1].status == S.OUTCOME_STATUS_SUCCEEDED
    other.cancel()
