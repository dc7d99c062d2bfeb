"""QueueService's unary calls: what they refuse, and how."""

from typing import Any

import pytest
from evenflow.queue.v1 import queue_pb2

from tests.contract.kit import refusal_of
from tests.contract.queue.nodes import Node

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.today]
Q = queue_pb2


def filtered(**which: Any) -> queue_pb2.DeadLetterFilter:
    """A filter that names an owner and shard 0, unless told otherwise."""
    return Q.DeadLetterFilter(**{"tenant_id": "t", **which})


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("ListEvents", Q.ListEventsRequest(), "INVALID_PARAMETER"),
        ("ListEvents", Q.ListEventsRequest(tenant_id="t", page_size=1_001), "INVALID_PARAMETER"),
        ("ListEvents", Q.ListEventsRequest(tenant_id="t", shard_id=2), "SHARD_UNAVAILABLE"),
        ("ListDeadLetters", Q.ListDeadLettersRequest(), "INVALID_PARAMETER"),
        ("ListDeadLetters", Q.ListDeadLettersRequest(filter=filtered(), page_size=1_001), "INVALID_PARAMETER"),
        ("ListDeadLetters", Q.ListDeadLettersRequest(filter=filtered(), page_token="x"), "INVALID_PARAMETER"),
        ("ListDeadLetters", Q.ListDeadLettersRequest(filter=filtered(shard_id=2)), "SHARD_UNAVAILABLE"),
        ("GetDeadLetter", Q.GetDeadLetterRequest(), "INVALID_PARAMETER"),
        ("GetDeadLetter", Q.GetDeadLetterRequest(tenant_id="t", request_id=b"\0" * 16), "INVALID_PARAMETER"),
        ("RedriveDeadLetters", Q.RedriveDeadLettersRequest(), "INVALID_PARAMETER"),
        ("RedriveDeadLetters", Q.RedriveDeadLettersRequest(filter=filtered(), max_events=10_001), "INVALID_PARAMETER"),
        ("PurgeDeadLetters", Q.PurgeDeadLettersRequest(), "INVALID_PARAMETER"),
        ("PurgeDeadLetters", Q.PurgeDeadLettersRequest(filter=filtered(), max_events=10_001), "INVALID_PARAMETER"),
        ("PurgeDeadLetters", Q.PurgeDeadLettersRequest(filter=filtered(shard_id=2)), "SHARD_UNAVAILABLE"),
    ],
)
async def test_a_bad_question_is_refused(node: Node, method: str, request_: Any, expected: str) -> None:
    assert await refusal_of(node.end.ask(method, request_)) == expected


async def test_a_dead_letter_that_is_not_there_is_not_found(node: Node) -> None:
    """Nor is another tenant's, nor a live event."""
    dead, live = node.event(), node.event()
    await node.bury(dead)
    await node.accept(live)
    for tenant, event in ((node.tenant, live), ("somebody", dead), (node.tenant, node.event())):
        request = Q.GetDeadLetterRequest(tenant_id=tenant, request_id=event.request_id)
        assert await refusal_of(node.end.ask("GetDeadLetter", request)) == "EVENT_NOT_FOUND"
