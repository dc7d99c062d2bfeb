"""The gRPC door: publishing in batches and streams, tokens, who may say what, event status, traces."""

import asyncio
from typing import Any

import grpc
import pytest
from evenflow.common.v1 import event_pb2
from evenflow.frontend.v1 import frontend_pb2

from services.shared import ids
from services.shared.errors import EvenflowError, Reason
from tests.integration.frontend.conftest import ACCESS_KEY, Rig
from tests.kit.waiting import eventually

Submission = frontend_pb2.EventSubmission


async def reason_of(call: Any) -> int:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return EvenflowError.from_rpc_error(caught.value).reason


def batch(*events: Submission) -> frontend_pb2.PublishBatchRequest:
    return frontend_pb2.PublishBatchRequest(events=events)


async def test_a_batch_is_answered_event_by_event_in_order(rig: Rig) -> None:
    """Good events are durable, bad ones carry their own typed error."""
    answer = await rig.public.PublishBatch(
        batch(
            Submission(function_name="echo", payload=b"1"),
            Submission(function_name="nobody", payload=b"2"),
            Submission(function_name="echo", payload=b"{"),
            Submission(function_name="echo", payload=b'"' + b"x" * 1_048_576 + b'"'),
            Submission(function_name="echo", client_token="x" * 129),
            Submission(function_name="echo", payload=b"6"),
        )
    )
    reasons = [r.error.reason for r in answer.results]
    assert reasons == [
        0,
        Reason.ERROR_REASON_FUNCTION_NOT_FOUND,
        Reason.ERROR_REASON_INVALID_REQUEST_CONTENT,
        Reason.ERROR_REASON_REQUEST_TOO_LARGE,
        Reason.ERROR_REASON_INVALID_PARAMETER,
        0,
    ]
    assert [rig.queue.events[answer.results[i].request_id].payload for i in (0, 5)] == [b"1", b"6"]


async def test_a_large_batch_is_spread_over_the_shards_and_sent_in_few_messages(rig: Rig) -> None:
    """1,000 events: each is durable once, in runs of 32 to a shard, and each shard's part travels together."""
    answer = await rig.public.PublishBatch(
        batch(*(Submission(function_name="echo", payload=b"%d" % i) for i in range(1_000)))
    )
    assert [rig.queue.events[r.request_id].payload for r in answer.results] == [b"%d" % i for i in range(1_000)]
    per_shard = [sum(1 for e in rig.queue.events if ids.shard_of(e) == s) for s in range(4)]
    assert max(per_shard) - min(per_shard) <= 4 * 32, per_shard
    assert len(rig.queue.batches) <= 12
    for request in rig.queue.batches:
        assert {ids.shard_of(e.request_id) for e in request.events} == {request.shard_id}


class TestEachEventByItself:
    """With frontend.choice_run=1."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"choice_run": 1}

    async def test_every_event_is_balanced_by_itself(self, rig: Rig) -> None:
        """Best of two over single events leaves a difference of a few."""
        await rig.public.PublishBatch(batch(*(Submission(function_name="echo") for _ in range(1_000))))
        per_shard = [sum(1 for e in rig.queue.events if ids.shard_of(e) == s) for s in range(4)]
        assert sum(per_shard) == 1_000
        assert max(per_shard) - min(per_shard) <= 10, per_shard


@pytest.mark.parametrize("events", [0, 1_001])
async def test_a_batch_outside_its_bounds_is_refused_whole(rig: Rig, events: int) -> None:
    """1 to 1,000 events."""
    call = rig.public.PublishBatch(batch(*(Submission(function_name="echo") for _ in range(events))))
    assert await reason_of(call) == Reason.ERROR_REASON_INVALID_PARAMETER


async def test_a_repeat_with_the_same_token_is_one_event(rig: Rig) -> None:
    """The same id again, marked as duplicate; another body under the token is refused."""
    one = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo", payload=b"1", client_token="a"))
    first, second = await rig.public.InvokeAsync(one), await rig.public.InvokeAsync(one)
    assert first.request_id == second.request_id and ids.is_derived(first.request_id)
    assert (first.duplicate, second.duplicate, len(rig.queue.events)) == (False, True, 1)
    one.event.payload = b"2"
    assert await reason_of(rig.public.InvokeAsync(one)) == Reason.ERROR_REASON_TOKEN_REUSED


async def test_only_the_fleet_may_name_tenant_lineage_and_source(rig: Rig) -> None:
    """ACCESS_DENIED for everybody else, and for all at the public port; the fleet's values reach the event."""
    lineage = event_pb2.Lineage(parent_request_id=b"p" * 16, chain_depth=3)
    events = [
        Submission(function_name="theirs", tenant_id="other"),
        Submission(function_name="echo", source="destination"),
        Submission(function_name="echo", lineage=lineage),
    ]
    for metadata in ((), (("evenflow-fleet-token", "wrong"),), rig.fleet_metadata):
        answer = await rig.public.PublishBatch(batch(*events), metadata=metadata)
        assert {r.error.reason for r in answer.results} == {Reason.ERROR_REASON_ACCESS_DENIED}
    assert not rig.queue.events
    answer = await rig.inner.PublishBatch(batch(*events), metadata=rig.fleet_metadata)
    stored = [rig.queue.events[r.request_id] for r in answer.results]
    assert (stored[0].tenant_id, stored[1].source, stored[2].lineage) == ("other", "destination", lineage)
    assert await reason_of(rig.inner.PublishBatch(batch(*events))) == Reason.ERROR_REASON_UNAUTHENTICATED


async def test_only_the_fleet_invokes_for_another_tenant(rig: Rig) -> None:
    """A queue's poller names whose function it runs and where in a chain; ACCESS_DENIED for everybody else."""
    lineage = event_pb2.Lineage(parent_request_id=b"p" * 16, chain_depth=3)
    for request in (
        frontend_pb2.InvokeRequest(function_name="theirs", tenant_id="other"),
        frontend_pb2.InvokeRequest(function_name="echo", lineage=lineage),
    ):
        assert await reason_of(rig.public.Invoke(request)) == Reason.ERROR_REASON_ACCESS_DENIED
    request = frontend_pb2.InvokeRequest(function_name="theirs", tenant_id="other", lineage=lineage)
    await rig.inner.Invoke(request, metadata=rig.fleet_metadata)
    [ran] = rig.runtime.seen
    assert (ran.tenant_id, ran.lineage) == ("other", lineage)


async def test_the_bearer_key_names_the_tenant(rig: Rig) -> None:
    """As the access key does over HTTP."""
    answer = await rig.public.InvokeAsync(
        frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="theirs")),
        metadata=(("authorization", f"Bearer {ACCESS_KEY}"),),
    )
    assert rig.queue.events[answer.request_id].tenant_id == "other"


async def test_the_state_of_an_event_is_told_to_its_owner_only(rig: Rig) -> None:
    """Lower-case state; EVENT_NOT_FOUND for another tenant, an unknown id and a shard that does not exist."""
    answer = await rig.public.InvokeAsync(frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo")))
    question = frontend_pb2.GetEventRequest(request_id=answer.request_id)
    status = await rig.public.GetEvent(question)
    assert (status.state, status.function_name, status.request_id) == ("available", "echo", answer.request_id)
    key = (("authorization", f"Bearer {ACCESS_KEY}"),)
    assert await reason_of(rig.public.GetEvent(question, metadata=key)) == Reason.ERROR_REASON_EVENT_NOT_FOUND
    for unknown in (ids.mint(1, 2), ids.mint(1, 60_000)):
        call = rig.public.GetEvent(frontend_pb2.GetEventRequest(request_id=unknown))
        assert await reason_of(call) == Reason.ERROR_REASON_EVENT_NOT_FOUND
    call = rig.public.GetEvent(frontend_pb2.GetEventRequest(request_id=b"short"))
    assert await reason_of(call) == Reason.ERROR_REASON_INVALID_PARAMETER


async def test_a_stream_reads_no_further_than_64_unanswered_batches(rig: Rig) -> None:
    """With a queue that does not answer the door stops reading; every batch is answered once it does."""
    rig.queue.mute = True
    taken: set[int] = set()
    take = rig.frontend._submissions.take

    def note(ticket: Any, index: int, submission: Any) -> None:
        taken.add(int(submission.payload))
        take(ticket, index, submission)

    rig.frontend._submissions.take = note  # type: ignore[method-assign]
    call = rig.public.Publish()

    async def write() -> None:
        for i in range(1, 101):
            event = Submission(function_name="echo", payload=b"%d" % i)
            await call.write(frontend_pb2.PublishRequest(batch_id=i, events=[event]))
        await call.done_writing()

    writer = asyncio.create_task(write())
    await eventually(lambda: len(taken) >= 64)
    await writer
    # A further message can only be read once a batch is answered: what the door took is exactly its bound.
    assert len(taken) == 64
    answered = set()
    rig.queue.mute = False
    await rig.queue.stop()
    await rig.queue.start()
    async for response in call:
        answered.add(response.batch_id)
    assert answered == set(range(1, 101))


async def test_a_batch_id_may_not_be_used_twice_at_once(rig: Rig) -> None:
    """0 and ids that wait for an answer are refused, and end the stream."""
    call = rig.public.Publish()
    await call.write(frontend_pb2.PublishRequest(batch_id=0, events=[Submission(function_name="echo")]))
    assert await reason_of(call.read()) == Reason.ERROR_REASON_INVALID_PARAMETER


async def test_a_sampled_accept_is_one_span_whose_context_is_in_the_event(rig: Rig) -> None:
    """Child of the caller's span, kind PRODUCER, with the attributes that tools look for; unsampled costs none."""
    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    answer = await rig.public.InvokeAsync(
        frontend_pb2.InvokeAsyncRequest(
            event=Submission(function_name="echo", trace=event_pb2.TraceContext(traceparent=parent))
        )
    )
    event = rig.queue.events[answer.request_id]
    rig.node.tracer._provider.force_flush()
    (span,) = rig.spans.get_finished_spans()
    assert span.name == "frontend.invoke_async" and span.kind.name == "PRODUCER"
    assert span.parent is not None and f"{span.parent.span_id:016x}" == "cd" * 8
    assert event.trace.traceparent == f"00-{'ab' * 16}-{span.context.span_id:016x}-01"
    attributes = dict(span.attributes or {})
    assert attributes["faas.invocation_id"] == ids.to_text(answer.request_id)
    assert attributes["evenflow.shard_id"] == ids.shard_of(answer.request_id)
    assert attributes["messaging.operation.type"] == "create"


async def test_a_synchronous_call_over_grpc(rig: Rig) -> None:
    """Result and log tail; a dry run runs nothing; refusals are typed."""
    answer = await rig.public.Invoke(
        frontend_pb2.InvokeRequest(function_name="echo", payload=b"7", wants_log_tail=True)
    )
    assert (answer.outcome.response_payload, answer.outcome.log_tail) == (b"7", b"START\nEND\n")
    await rig.public.Invoke(frontend_pb2.InvokeRequest(function_name="echo", dry_run=True))
    assert len(rig.runtime.seen) == 1
    call = rig.public.Invoke(frontend_pb2.InvokeRequest(function_name="nobody"))
    assert await reason_of(call) == Reason.ERROR_REASON_FUNCTION_NOT_FOUND
