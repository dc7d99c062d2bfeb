"""The shard against a plain model, through any order of steps, time and crashes."""

import shutil
import tempfile
from pathlib import Path

from evenflow.queue.v1 import queue_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.queue.domain import Cause
from tests.unit.queue.kit import Bench, ack, bury, extend, hand_over, release

State = queue_pb2.EventState
TERMINAL = {State.EVENT_STATE_SUCCEEDED, State.EVENT_STATE_DEAD}


class Known:
    """What the model knows of one event."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.state: int = State.EVENT_STATE_AVAILABLE
        self.due_ms = 0
        self.deliveries = 0
        self.function_errors = 0
        self.has_handover = False


class ShardMachine(RuleBasedStateMachine):
    """Steps of pollers, frontends, time and crashes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="ef-", dir="/tmp"))
        self.bench = Bench(self.directory, window_events=2, max_deliveries=1_000)
        self.model: dict[bytes, Known] = {}
        self.leases: dict[bytes, queue_pb2.Lease] = {}
        self.stale: list[queue_pb2.Lease] = []

    def teardown(self) -> None:
        """Remove the file."""
        self.bench.shard.database.close()
        shutil.rmtree(self.directory)

    @rule(tokens=st.lists(st.integers(0, 30), min_size=1, max_size=6), function=st.sampled_from("fgh"))
    def enqueue(self, tokens: list[int], function: str) -> None:
        """New tokens are stored; repeats are duplicates in whatever state; another body is refused."""
        events = [self.bench.event(function=function, token=f"{function}{token}") for token in tokens]
        expected: list[int] = []
        for index, event in enumerate(events):
            if event.request_id in self.model:
                expected.append(index)
            self.model.setdefault(event.request_id, Known(str(tokens[index])))
        result = self.bench.enqueue(*events)
        assert result.refusal is None and not result.event_refusals
        assert sorted(result.duplicate_indexes) == expected

    @rule(count=st.integers(1, 5))
    def lease(self, count: int) -> None:
        """As many as there are, never one that is leased, delayed or over."""
        available = [k for k in self.model.values() if k.state == State.EVENT_STATE_AVAILABLE]
        leases = self.bench.lease(count)
        assert len(leases) == min(count, len(available))
        for lease in leases:
            known = self.model[lease.event.request_id]
            assert known.state == State.EVENT_STATE_AVAILABLE
            assert lease.deliveries == known.deliveries and lease.function_errors == known.function_errors
            assert lease.HasField("handover") == known.has_handover
            known.state = State.EVENT_STATE_LEASED
            self.leases[lease.event.request_id] = lease

    @rule(data=st.data(), how=st.sampled_from(["ack", "bury", "now", "later", "handover", "extend"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        """A current receipt is always taken."""
        if not self.leases:
            return
        request_id = data.draw(st.sampled_from(sorted(self.leases)))
        lease, known = self.leases[request_id], self.model[request_id]
        if how == "handover":
            assert not self.bench.settle(hand_over(lease)).refusals
            known.has_handover = True
            return
        if how == "extend":
            assert not self.bench.settle(extend(lease)).refusals
            return
        del self.leases[request_id]
        self.stale.append(lease)
        if how == "ack":
            assert not self.bench.settle(ack(lease)).refusals
            known.state = State.EVENT_STATE_SUCCEEDED
        elif how == "bury":
            assert not self.bench.settle(bury(lease)).refusals
            known.state = State.EVENT_STATE_DEAD
        elif how == "now":
            assert not self.bench.settle(release(lease, Cause.FUNCTION_ERROR)).refusals
            known.state, known.function_errors = State.EVENT_STATE_AVAILABLE, known.function_errors + 1
        else:
            assert not self.bench.settle(release(lease, Cause.THROTTLE, 5_000)).refusals
            known.state, known.due_ms = State.EVENT_STATE_DELAYED, self.bench.clock.wall_ms() + 5_000

    @rule(data=st.data())
    def settle_stale(self, data: st.DataObject) -> None:
        """A receipt that is not current is always refused."""
        if self.stale:
            lease = data.draw(st.sampled_from(self.stale))
            assert self.bench.settle(ack(lease)).refusals

    @rule(milliseconds=st.sampled_from([100, 4_000, 11_000]))
    def wait(self, milliseconds: int) -> None:
        """Leases run out unless extended; delayed events become due."""
        timeout_ms = self.bench.settings.visibility_timeout_ms
        if milliseconds < timeout_ms:
            # Keep what is leased, so that the model need not know each deadline.
            for lease in self.leases.values():
                assert not self.bench.settle(extend(lease)).refusals
        self.bench.clock.advance(milliseconds)
        self.bench.drain()
        if milliseconds >= timeout_ms:
            self.end_leases(deliveries=1)
        for known in self.model.values():
            if known.state == State.EVENT_STATE_DELAYED and known.due_ms <= self.bench.clock.wall_ms():
                known.state = State.EVENT_STATE_AVAILABLE

    @rule()
    def crash(self) -> None:
        """All leases are free again; nothing else changes."""
        self.bench.crash()
        self.end_leases(deliveries=0)

    @rule()
    def close_and_open(self) -> None:
        """A clean end keeps everything too."""
        self.bench.close()
        self.bench.open()
        self.end_leases(deliveries=0)

    def end_leases(self, deliveries: int) -> None:
        """All leases ended without a settle."""
        for request_id, lease in self.leases.items():
            self.model[request_id].state = State.EVENT_STATE_AVAILABLE
            self.model[request_id].deliveries += deliveries
            self.stale.append(lease)
        self.leases.clear()

    @invariant()
    def counts_agree(self) -> None:
        """Depths are exact."""
        stats = self.bench.shard.stats()
        states = [known.state for known in self.model.values()]
        assert stats.depth == sum(state not in TERMINAL for state in states)
        assert stats.dead_letters == states.count(State.EVENT_STATE_DEAD)
        assert stats.leased == len(self.leases)
        assert stats.delayed == states.count(State.EVENT_STATE_DELAYED)
        live = [k for k in self.model.values() if k.state not in TERMINAL]
        assert stats.handovers == sum(known.has_handover for known in live)
        assert self.bench.shard.lanes.tenant_events.get("t", 0) == stats.depth

    @invariant()
    def states_agree(self) -> None:
        """Every event is where the model says."""
        for request_id, known in self.model.items():
            status = self.bench.status(request_id)
            assert status is not None
            state = known.state
            if known.has_handover and state not in TERMINAL:
                state = State.EVENT_STATE_HANDOVER
            assert status.state == state


TestShardAgainstModel = ShardMachine.TestCase
TestShardAgainstModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
