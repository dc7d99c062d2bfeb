"""What the doors do when queue nodes refuse, vanish, cut streams or say that the map is old."""

import asyncio
from typing import Any

import grpc
import pytest
from evenflow.common.v1 import errors_pb2, event_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.shared import ids
from services.shared.errors import EvenflowError, Reason
from tests.integration.frontend.conftest import Rig, shard_map
from tests.kit.waiting import eventually

Submission = frontend_pb2.EventSubmission


def publish(rig: Rig, events: int = 1, token: str = "") -> "asyncio.Task[frontend_pb2.PublishBatchResponse]":
    request = frontend_pb2.PublishBatchRequest(
        events=[Submission(function_name="echo", client_token=f"{token}{i}" if token else "") for i in range(events)]
    )

    async def call() -> frontend_pb2.PublishBatchResponse:
        answer: frontend_pb2.PublishBatchResponse = await rig.public.PublishBatch(request)
        return answer

    return asyncio.create_task(call())


def reasons(answer: frontend_pb2.PublishBatchResponse) -> set[int]:
    return {r.error.reason for r in answer.results}


async def test_a_stream_cut_after_receive_is_sent_again_with_the_same_ids(rig: Rig) -> None:
    """The batch was stored, its answer lost: the repeat meets it, and the caller sees one plain success."""
    rig.queue.cut_after_receive = 1
    answer = await publish(rig, 5)
    assert reasons(answer) == {0} and not any(r.duplicate for r in answer.results)
    assert set(rig.queue.events) == {r.request_id for r in answer.results}
    assert len(rig.queue.events) == 5 and rig.queue.streams >= 2


async def test_an_outcome_that_stays_unknown_is_said_to_be_unknown(rig: Rig) -> None:
    """After resend_ms without an answer: OUTCOME_UNKNOWN, which is not "nothing was accepted"."""
    rig.queue.mute = True
    answer = await publish(rig)
    assert reasons(answer) == {Reason.ERROR_REASON_OUTCOME_UNKNOWN}
    assert answer.results[0].error.retry_after_ms > 0
    assert rig.frontend.accepter.pending_events == 0 and rig.frontend.accepter.pending_bytes == 0


def token_of_shard(shard_id: int) -> str:
    """A token whose first event (`publish` numbers them) belongs to this shard."""
    tokens = (f"tok{n}-" for n in range(1_000))
    return next(t for t in tokens if ids.shard_of(ids.derive("default", "token", f"{t}0".encode(), 4)) == shard_id)


async def test_shards_that_do_not_answer_hold_up_no_other_shard(rig: Rig) -> None:
    """Small batches wait for those on their way, but not for ones that are not answered soon."""
    rig.queue.mute_shards = {0, 1}
    mute = [publish(rig, 1, token_of_shard(shard_id)) for shard_id in (0, 1)]
    await eventually(lambda: len(rig.queue.batch_sizes) == 2)
    others = await asyncio.gather(*(publish(rig, 1, token_of_shard(shard_id)) for shard_id in (2, 3)))
    assert [reasons(answer) for answer in others] == [{0}, {0}]
    assert not any(one.done() for one in mute)
    assert [reasons(await one) for one in mute] == [{Reason.ERROR_REASON_OUTCOME_UNKNOWN}] * 2


async def test_a_node_that_is_down_is_waited_for(rig: Rig) -> None:
    """Held while no shard is healthy, accepted when the node is back within hold_ms."""
    await rig.queue.stop()
    await rig.until_healthy(0)
    waiting = publish(rig, 3, "tok")
    minted = publish(rig, 3)
    await eventually(lambda: rig.frontend.accepter.pending_events == 6)
    await rig.queue.start()
    assert reasons(await waiting) == {0} and reasons(await minted) == {0}
    assert len(rig.queue.events) == 6


async def test_what_a_caller_waits_for_no_more_is_not_stored(rig: Rig) -> None:
    """Its deadline passed while no shard was there: the shard that comes back is not given the work."""
    await rig.queue.stop()
    await rig.until_healthy(0)
    request = frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.public.InvokeAsync(request, timeout=0.1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    waiting = publish(rig)
    await rig.queue.start()
    assert reasons(await waiting) == {0}
    await eventually(lambda: rig.frontend.accepter.pending_events == 0)
    assert len(rig.queue.events) == 1


async def test_a_node_that_stays_down_is_503(rig: Rig) -> None:
    """SHARD_UNAVAILABLE with a time to come back, for minted and derived ids."""
    await rig.queue.stop()
    await rig.until_healthy(0)
    for answer in await asyncio.gather(publish(rig, 2), publish(rig, 2, "tok")):
        assert reasons(answer) == {Reason.ERROR_REASON_SHARD_UNAVAILABLE}
        assert answer.results[0].error.retry_after_ms > 0
    assert rig.frontend.accepter.pending_events == 0 and rig.frontend.accepter.pending_bytes == 0


async def test_a_stale_map_is_refetched_and_the_batch_sent_again_on_its_shard(rig: Rig) -> None:
    """The ids stay; the newer epoch releases the batch."""
    rig.queue.epoch = 2
    answer = publish(rig, 8)
    await eventually(lambda: len(rig.queue.batches) >= 2)
    first = {e.request_id for b in rig.queue.batches for e in b.events}
    rig.configuration.put(shard_map(["queue-0"] * 4, epoch=2))
    done = await answer
    assert reasons(done) == {0}
    assert first <= set(rig.queue.events) and len(rig.queue.events) == 8
    assert {r.request_id for r in done.results} == set(rig.queue.events)


@pytest.mark.parametrize(
    "reason", [Reason.ERROR_REASON_SHARD_UNAVAILABLE, Reason.ERROR_REASON_SHARD_FULL, Reason.ERROR_REASON_DRAINING]
)
async def test_a_refused_batch_finds_another_shard(rig: Rig, reason: Any) -> None:
    """Nothing was stored, so new ids may be minted for a shard that takes it."""
    for shard_id in (0, 1, 2):
        rig.queue.refuse[shard_id] = errors_pb2.ErrorDetail(reason=reason)
    answer = await publish(rig, 40)
    assert reasons(answer) == {0}
    assert {ids.shard_of(r.request_id) for r in answer.results} == {3}
    assert len(rig.queue.events) == 40


async def test_full_shards_everywhere_are_told_at_once(rig: Rig) -> None:
    """SHARD_FULL, without waiting: the door must not become the queue."""
    for shard_id in range(4):
        rig.queue.refuse[shard_id] = errors_pb2.ErrorDetail(reason=Reason.ERROR_REASON_SHARD_FULL, retry_after_ms=500)
    answer = await publish(rig, 8)
    assert reasons(answer) == {Reason.ERROR_REASON_SHARD_FULL}
    assert reasons(await publish(rig, 4, "tok")) == {Reason.ERROR_REASON_SHARD_FULL}
    assert rig.frontend.accepter.pending_events == 0


async def test_a_draining_shard_is_not_chosen_but_its_tokens_go_there(rig: Rig) -> None:
    """WatchDepths takes a shard out of the choice and back in."""
    for shard_id in (1, 2, 3):
        rig.queue.set_state(shard_id, queue_pb2.SHARD_STATE_DRAINING)
    await rig.until_healthy(1)
    answer = await publish(rig, 20)
    assert {ids.shard_of(r.request_id) for r in answer.results} == {0}
    for shard_id in (1, 2, 3):
        rig.queue.set_state(shard_id, queue_pb2.SHARD_STATE_SERVING)
    await rig.until_healthy(4)


async def test_reported_depths_steer_the_choice(rig: Rig) -> None:
    """A deep shard loses every comparison."""
    rig.queue.set_state(2, queue_pb2.SHARD_STATE_SERVING, depth=1_000_000)
    await eventually(lambda: rig.frontend.accepter.depths.estimates[2] >= 1_000_000)
    answer = await publish(rig, 100)
    assert 2 not in {ids.shard_of(r.request_id) for r in answer.results}


async def test_one_event_may_be_refused_alone(rig: Rig) -> None:
    """A refusal by event leaves its neighbours accepted."""
    rig.queue.refuse_event["echo"] = errors_pb2.ErrorDetail(reason=Reason.ERROR_REASON_TENANT_QUEUE_FULL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.public.InvokeAsync(frontend_pb2.InvokeAsyncRequest(event=Submission(function_name="echo")))
    assert EvenflowError.from_rpc_error(caught.value).reason == Reason.ERROR_REASON_TENANT_QUEUE_FULL


async def test_a_drain_answers_what_is_in_flight_and_refuses_what_is_new(rig: Rig) -> None:
    """Nothing that was taken is dropped."""
    rig.runtime.behave = lambda _i: None
    running = asyncio.ensure_future(rig.public.Invoke(frontend_pb2.InvokeRequest(function_name="echo")))
    await eventually(lambda: rig.runtime.seen)
    drain = asyncio.create_task(rig.frontend.drain())
    await eventually(lambda: rig.frontend._submissions.is_draining)
    assert reasons(await publish(rig)) == {Reason.ERROR_REASON_DRAINING}
    assert not drain.done()
    outcome = event_pb2.Outcome(status=event_pb2.OUTCOME_STATUS_SUCCEEDED, response_payload=b"1")
    rig.runtime.finish(rig.runtime.seen[0].invocation_id, outcome)
    assert (await running).outcome.response_payload == b"1"
    await drain


class TestBounds:
    """The bound of events that are not durable yet."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"max_pending_events": 10}

    async def test_more_than_the_bound_is_refused_at_once(self, rig: Rig) -> None:
        """UNAVAILABLE for what is beyond it; the rest waits for its answer."""
        rig.queue.mute = True
        answer = await publish(rig, 12)
        found = [r.error.reason for r in answer.results]
        assert found.count(Reason.ERROR_REASON_UNAVAILABLE) == 2
        assert found.count(Reason.ERROR_REASON_OUTCOME_UNKNOWN) == 10
        assert rig.frontend.accepter.pending_events == 0
