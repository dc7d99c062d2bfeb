"""Events that arrive together share a shard choice, but none is drawn to a shard that is slow to take them."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from evenflow.common.v1 import event_pb2

from services.frontend.accept import MAX_RUN_MS, RUN_MS, Accepter
from services.frontend.settings import FrontendSettings
from services.frontend.targets import Target
from services.frontend.tickets import Ticket
from services.shared import ids
from services.shared.clock import FakeClock

SHARDS = 4
TARGET = Target("default", "f", "", "arn", 3_600_000, cast(Any, None))


class Door:
    """An accepter with nobody behind it: what is submitted waits until the test sends it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        settings = FrontendSettings(node_id="f", data_dir="/tmp", run_dir="/tmp", token_file="")
        draws: Iterator[float] = iter([0.0, 0.0, 0.9, 0.9] * 50)
        self.accepter = Accepter(settings, self.clock, cast(Any, None), lambda: cast(Any, None), draws.__next__)
        self.accepter.resize(SHARDS)
        for shard_id in range(SHARDS):
            self.accepter.depths.set_healthy(shard_id, True, 0.0)

    def submit(self) -> int:
        """The shard that one more event is put to."""
        ticket = Ticket(1, self.clock.monotonic_ms(), lambda _ticket: None)
        self.accepter.submit(ticket, 0, TARGET, b"", event_pb2.TraceContext(traceparent="00"), source="test")
        return ids.shard_of(ticket.request_ids[0])

    def send(self, shard_id: int) -> None:
        """What waits for the shard leaves."""
        lane = self.accepter.lanes[shard_id]
        batch = lane.take()
        lane.sent[batch.request.batch_id] = batch


@pytest.fixture
def door() -> Door:
    return Door()


def test_what_arrives_while_the_first_one_waits_goes_with_it(door: Door) -> None:
    first = door.submit()
    for _ in range(4):
        door.clock.advance(MAX_RUN_MS / 5)
        assert door.submit() == first


def test_what_arrives_after_it_left_has_a_choice_of_its_own(door: Door) -> None:
    first = door.submit()
    door.send(first)
    assert door.submit() == first
    door.send(first)
    door.clock.advance(RUN_MS)
    assert door.submit() != first


def test_a_shard_that_does_not_take_the_first_one_gets_no_more(door: Door) -> None:
    """Its disk is slow, say; the depths tell that it is the deepest."""
    first = door.submit()
    door.clock.advance(MAX_RUN_MS)
    assert door.submit() != first
