"""Calls to AWS neighbours share the pool's threads: real threads, and destinations that do not answer."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from services.poller import neighbour_lanes
from services.poller.neighbour_lanes import NeighbourLanes
from services.shared.aws import AwsCalls, AwsClients, AwsSettings
from services.shared.errors import EvenflowError, Reason

THREADS = 5
HEARD_SECONDS = 10.0


@pytest.fixture
async def calls() -> AsyncIterator[AwsCalls]:
    made = AwsCalls(AwsSettings("poller-0", "data", "run", "token"), "aws-test", threads=THREADS)
    yield made
    await made.close()


async def test_a_destination_that_does_not_answer_leaves_threads_for_others(calls: AwsCalls) -> None:
    """However many calls of it wait; they are made in their order once it answers."""
    lanes = NeighbourLanes(calls, THREADS)
    answers, count = threading.Event(), 4 * THREADS
    dead: asyncio.Queue[Any] = asyncio.Queue()
    order: list[int] = []

    def hang(number: int, _: AwsClients) -> int:
        order.append(number)
        answers.wait(HEARD_SECONDS)
        return number

    try:
        for number in range(count):
            lanes.start("dead", partial(hang, number), dead.put_nowait)
        other: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lanes.start("alive", lambda _: "sent", other.set_result)
        assert await asyncio.wait_for(other, HEARD_SECONDS / 2) == "sent"
        assert len(order) <= lanes.calls_of_destination == 4
    finally:
        answers.set()
    assert {await asyncio.wait_for(dead.get(), HEARD_SECONDS) for _ in range(count)} == set(range(count))
    assert sorted(order) == list(range(count)) and set(order[:4]) == set(range(4))
    # Nothing is kept of destinations that nobody calls.
    assert not lanes._lanes


async def test_calls_that_wait_are_bounded_and_told_when_the_pool_closes(
    calls: AwsCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits in a lane hears of the end as who waits for a thread does."""
    monkeypatch.setattr(neighbour_lanes, "MAX_WAITING_CALLS", 2)
    lanes = NeighbourLanes(calls, THREADS)
    answers = threading.Event()
    heard: asyncio.Queue[EvenflowError] = asyncio.Queue()
    try:
        for _ in range(7):
            lanes.start("dead", lambda _: answers.wait(HEARD_SECONDS), heard.put_nowait)
        refused = await asyncio.wait_for(heard.get(), HEARD_SECONDS)
        assert refused.reason == Reason.ERROR_REASON_UNAVAILABLE and "wait already" in refused.message
        await calls.close()
        reasons = [(await asyncio.wait_for(heard.get(), HEARD_SECONDS)).reason for _ in range(6)]
        assert reasons.count(Reason.ERROR_REASON_OUTCOME_UNKNOWN) == 4
        assert reasons.count(Reason.ERROR_REASON_UNAVAILABLE) == 2
    finally:
        answers.set()
