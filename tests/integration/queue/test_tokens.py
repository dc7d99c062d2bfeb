"""Under every shard choice, tries of one client token while its queue node is away or its shard moves are one event."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from evenflow.common.v1 import errors_pb2
from evenflow.frontend.v1 import frontend_pb2
from evenflow.queue.v1 import queue_pb2

from services.policy.shard_choice import POLICIES
from services.shared.errors import EvenflowError
from tests.integration.poller.rig import TENANT, succeeded
from tests.integration.queue.rig import MOVE_SECONDS, NODES, SHARD, SHARDS, TwoQueues, shard_of_token
from tests.kit.processes import free_port
from tests.kit.waiting import eventually, until

pytestmark = [pytest.mark.fleet, pytest.mark.asyncio(loop_scope="module")]
TRY_PAUSE_SECONDS = 0.02
# Accepted once before the moves, and after each of the two.
MIN_ANSWERS = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[TwoQueues]:
    """Two queue nodes, and a door of its own for each policy."""
    folder = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
    made = TwoQueues(folder)
    try:
        for number, policy in enumerate(POLICIES, 1):
            made.processes.start(
                f"frontend-{number}",
                EVENFLOW_FRONTEND_SHARD_CHOICE=policy,
                EVENFLOW_HTTP_LISTEN=f"127.0.0.1:{free_port()}",
                EVENFLOW_GRPC_LISTEN=f"127.0.0.1:{free_port()}",
            )
        await made.start()
        yield made
    finally:
        await made.stop()
        shutil.rmtree(folder, ignore_errors=True)


class Insistent:
    """Sends one event with one token again and again through one door."""

    def __init__(self, rig: TwoQueues, number: int) -> None:
        self.function = f"f{number}"
        tokens = (f"{POLICIES[number - 1]}-{n}" for n in range(1_000))
        # All go to the shard that is killed and moved, past what the policy would choose.
        self.token = next(token for token in tokens if shard_of_token(token) == SHARD)
        self.request_ids: list[bytes] = []
        self.first_tries = 0
        self._door = rig.door_of(f"frontend-{number}")
        self._metadata = rig.metadata

    async def send(self, payload: bytes = b"1") -> frontend_pb2.InvokeAsyncResponse:
        """One try."""
        event = frontend_pb2.EventSubmission(function_name=self.function, payload=payload, client_token=self.token)
        answer: frontend_pb2.InvokeAsyncResponse = await self._door.InvokeAsync(
            frontend_pb2.InvokeAsyncRequest(event=event), metadata=self._metadata, timeout=15, wait_for_ready=True
        )
        return answer

    async def insist(self) -> None:
        """For ever."""
        while True:
            await self.once()
            await asyncio.sleep(TRY_PAUSE_SECONDS)

    async def once(self) -> None:
        """A try whose answer is kept; a refusal that may be repeated is passed over."""
        try:
            answer = await asyncio.shield(self.send())
        except grpc.aio.AioRpcError as e:
            error = EvenflowError.from_rpc_error(e)
            assert error.kind.retryable, error
            return
        self.request_ids.append(answer.request_id)
        self.first_tries += not answer.duplicate


async def events_of(rig: TwoQueues, function: str) -> list[queue_pb2.EventStatus]:
    """Every event of a function, in all shards of all nodes."""
    found: list[queue_pb2.EventStatus] = []
    owners = (await rig.shard_map()).owner_node_ids
    for shard_id in range(SHARDS):
        request = queue_pb2.ListEventsRequest(tenant_id=TENANT, shard_id=shard_id, function_name=function)
        answer: Any = await rig.queues[owners[shard_id]].ListEvents(request, metadata=rig.metadata, timeout=5)
        found += answer.events
    return found


async def test_one_token_is_one_event_under_every_policy(rig: TwoQueues) -> None:
    """Its node is killed before the first try and in the middle of others, its shard moves away and back."""
    doors = [Insistent(rig, number) for number in range(1, len(POLICIES) + 1)]
    for door in doors:
        await rig.deploy(door.function, lambda _invocation: succeeded())
    await asyncio.to_thread(rig.processes.kill, NODES[0])
    tries = [asyncio.create_task(door.insist()) for door in doors]
    try:
        await asyncio.to_thread(rig.processes.restart, NODES[0])
        await eventually(lambda: all(door.request_ids for door in doors), 15, "every token to be accepted")
        await asyncio.to_thread(rig.processes.kill, NODES[0])
        await asyncio.to_thread(rig.processes.restart, NODES[0])
        for target in (NODES[1], NODES[0]):
            await rig.move(target)
            await until(lambda target=target: rig.is_moved(target), MOVE_SECONDS, "the move")  # type: ignore[misc]
            counts = [len(door.request_ids) for door in doors]
            await eventually(
                lambda counts=counts: all(len(d.request_ids) > n for d, n in zip(doors, counts, strict=True)),  # type: ignore[misc]
                15,
                "every token to be tried at the new node",
            )
    finally:
        for task in tries:
            task.cancel()
        ended = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended
    for door in doors:
        assert len(set(door.request_ids)) == 1 and len(door.request_ids) >= MIN_ANSWERS
        # The answer to the first accept may have been lost with the node.
        assert door.first_tries <= 1
        await rig.ended(door.request_ids[0], "succeeded")
        assert [event.request_id for event in await events_of(rig, door.function)] == [door.request_ids[0]]
        assert {run.request_id for run in rig.runs(door.function)} == {door.request_ids[0]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await door.send(b"2")
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert EvenflowError.from_rpc_error(caught.value).reason == errors_pb2.ERROR_REASON_TOKEN_REUSED
