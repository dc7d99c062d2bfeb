"""The stores beside each other: through any order of steps they answer alike, to the last field.

Left open by the contract, and so not compared: receipts, which of the waiting events come first, and whether a repeat
that is in the same batch counts in its tenant's bound.
"""

import random
from collections.abc import Callable
from typing import Any

from evenflow.common.v1.event_pb2 import Event
from evenflow.queue.v1 import queue_pb2
from evenflow.queue.v1.queue_pb2 import Lease
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.contract import messages
from tests.contract.messages import SHARD, event_of
from tests.contract.storage.sqlite_shard import SqliteShard
from tests.contract.storage.stores import TimedMemoryShard
from tests.kit.shard_store import Bounds, ShardStore

BOUNDS = Bounds(max_deliveries=2, shard_max_events=20, dead_letter_keep_seconds=60)
TENANTS, FUNCTIONS, POLLERS = ("t", "u"), ("f", "g"), ("poller-0", "poller-1")
AGES_MS = (3_000, 30_000, 21_600_000)
WAITS_MS = (100, 1_001, 4_000, 11_000, 61_000)
CAUSES = ("FUNCTION_ERROR", "THROTTLE", "UNSTARTED", "DELIVERY_FAILED", "DELIVERY_REFUSED")
PICKS = st.integers(0, 30)
WALK_SEED, WALK_STEPS = 3, 500
# Ends are seldom: most of an event's life comes before them.
WALK_ACTIONS = (*["release"] * 12, "hand_over", "confirm", "confirm_queue", "extend", "ack", "fail", "bury")
ACTIONS = st.sampled_from(["ack", "fail", "bury", "hand_over", "extend", "confirm", "confirm_queue", "release"])


class Pair(RuleBasedStateMachine):
    """Every step is taken on both."""

    @initialize()
    def begin(self) -> None:
        self.open()

    def open(self) -> None:
        """Both, empty."""
        sqlite = SqliteShard(BOUNDS)
        self.stores: tuple[ShardStore, ShardStore] = (sqlite, TimedMemoryShard(BOUNDS, sqlite.clock))
        self.clock = sqlite.clock
        self.sent: dict[bytes, Event] = {}
        # By the store: its own lease of each event.
        self.leases: list[dict[bytes, Lease]] = [{}, {}]
        self.incarnations = dict.fromkeys(POLLERS, 0)
        self.numbers = 0
        self.join_all()

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            self.stores[0].close()

    def both(self, step: Any) -> Any:
        """What both answer to this."""
        one, two = (step(store) for store in self.stores)
        assert one == two, f"sqlite: {one}\nmemory: {two}"
        return one

    def join_all(self) -> None:
        """Every poller's stream, as it is."""
        for poller, number in self.incarnations.items():
            for store in self.stores:
                store.join(poller, str(number))

    def pick(self, pick: int) -> bytes | None:
        """One of the events that were leased once; four times of five one that is leased now."""
        memory = self.stores[1]
        assert isinstance(memory, TimedMemoryShard)
        leases = {key: lease.receipt.fence for key, lease in self.leases[1].items()}
        rows = memory.rows
        now = sorted(key for key, fence in leases.items() if key in rows and rows[key].fence == fence)
        leased = now if now and pick % 5 else sorted(leases)
        return leased[pick % len(leased)] if leased else None

    @rule(
        tokens=st.lists(st.integers(0, 6), min_size=1, max_size=5),
        tenant=st.sampled_from(TENANTS),
        function=st.sampled_from(FUNCTIONS),
        age=st.sampled_from(AGES_MS),
    )
    def enqueue(self, tokens: list[int], tenant: str, function: str, age: int) -> None:
        """New ones and repeats of tokens, some with another body."""
        events = []
        for token in tokens:
            self.numbers += 1
            body = b"%d" % (token // 2 if token else self.numbers)
            text = f"token {token // 2}" if token else ""
            events.append(event_of(self.clock.wall_ms(), self.numbers, function, tenant, text, age, payload=body))
        self.send(events)

    @precondition(lambda self: self.sent)
    @rule(pick=PICKS)
    def send_again(self, pick: int) -> None:
        """A repeat of anything that was ever sent and is still known."""
        event = list(self.sent.values())[pick % len(self.sent)] if self.sent else Event()
        if self.stores[1].status(event.tenant_id, event.request_id) is not None:
            self.send([event])

    def send(self, events: list[Event]) -> None:
        """The answers are alike but for their words."""
        request = queue_pb2.EnqueueRequest(batch_id=1, shard_id=SHARD, events=events)

        def enqueue(store: ShardStore) -> Any:
            answer = store.enqueue(request)
            refusal = answer.refusal.reason if answer.HasField("refusal") else None
            return refusal, messages.reasons(answer.event_refusals), list(answer.duplicate_indexes), answer.depth

        self.both(enqueue)
        self.sent.update({event.request_id: event for event in events})

    @rule(poller=st.sampled_from(POLLERS))
    def lease_all(self, poller: str) -> None:
        """Everything that waits."""
        found = [{lease.event.request_id: lease for lease in store.lease(poller, 100)} for store in self.stores]
        told = [{key: _without_receipt(lease) for key, lease in leases.items()} for leases in found]
        assert told[0] == told[1]
        for mine, new in zip(self.leases, found, strict=True):
            mine.update(new)

    @precondition(lambda self: self.leases[0])
    @rule(picks=st.lists(PICKS, min_size=1, max_size=4), actions=st.lists(ACTIONS, min_size=4, max_size=4), more=PICKS)
    def settle(self, picks: list[int], actions: list[str], more: int) -> None:
        """Leases of now and before, some of them more than once in a batch."""
        chosen = [self.pick(pick) for pick in picks]

        def settle(store: ShardStore) -> Any:
            leases = self.leases[self.stores.index(store)]
            batch = [
                _settlement(leases[key], action, more) for key, action in zip(chosen, actions, strict=False) if key
            ]
            return messages.reasons(store.settle(queue_pb2.SettleRequest(batch_id=1, settlements=batch)).refusals)

        if self.leases[0]:
            self.both(settle)

    @precondition(lambda self: self.leases[0])
    @rule(pick=PICKS)
    def give_back(self, pick: int) -> None:
        """A lease that never left."""
        key = self.pick(pick)
        if key is not None:
            for store, leases in zip(self.stores, self.leases, strict=True):
                store.give_back([leases[key]])

    @rule(poller=st.sampled_from(POLLERS))
    def restart_poller(self, poller: str) -> None:
        """Another incarnation."""
        self.incarnations[poller] += 1
        self.join_all()

    @rule(milliseconds=st.sampled_from(WAITS_MS))
    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.clock.advance(milliseconds)
        for store in self.stores:
            store.tick()

    @rule(tenant=st.sampled_from(TENANTS), pick=PICKS)
    def redrive(self, tenant: str, pick: int) -> None:
        """Dead letters get a fresh life: one, those of a function, or all."""
        which = self.some_dead(tenant, pick)
        self.both(lambda store: store.redrive(which, 1_000))

    @rule(tenant=st.sampled_from(TENANTS), pick=PICKS)
    def purge(self, tenant: str, pick: int) -> None:
        """They go."""
        which = self.some_dead(tenant, pick)
        self.both(lambda store: store.purge(which, 1_000))

    def some_dead(self, tenant: str, pick: int) -> queue_pb2.DeadLetterFilter:
        """Never "the oldest so many": which of one moment died first is left open."""
        which = queue_pb2.DeadLetterFilter(tenant_id=tenant)
        dead = self.stores[1].dead_letters(which, 1_000).dead_letters
        if pick % 4 == 1:
            which.function_name = FUNCTIONS[pick % 2]
        elif pick % 4 == 2:
            which.error_type = "ValueError"
        elif pick % 4 == 3 and dead:
            which.request_id = sorted(entry.status.request_id for entry in dead)[pick % len(dead)]
        return which

    @rule(is_clean=st.booleans())
    def end(self, is_clean: bool) -> None:
        """The process ends and comes back."""
        for store in self.stores:
            if is_clean:
                store.reopen()
            else:
                store.crash()
            store.tick()
        self.join_all()

    @invariant()
    def they_agree(self) -> None:
        """Numbers, statuses, lists and dead letters are the same."""
        if not hasattr(self, "stores"):
            return
        self.both(lambda store: store.numbers())
        for event in self.sent.values():
            self.both(lambda store, event=event: store.status(event.tenant_id, event.request_id))
            self.both(lambda store, event=event: store.dead_letter(event.tenant_id, event.request_id))
        for tenant in TENANTS:
            which = queue_pb2.DeadLetterFilter(tenant_id=tenant)
            # Which of one moment died first is left open.
            self.both(lambda store, which=which: _sorted(e.status for e in store.dead_letters(which, 100).dead_letters))
            self.both(lambda store, tenant=tenant: _sorted(store.list_events(tenant, "", 1_000)))


def _sorted(statuses: Any) -> list[bytes]:
    return sorted(status.SerializeToString(deterministic=True) for status in statuses)


def _without_receipt(lease: Lease) -> Lease:
    lease = Lease.FromString(lease.SerializeToString())
    lease.ClearField("receipt")
    return lease


def _settlement(lease: Lease, action: str, more: int) -> queue_pb2.Settlement:
    match action:
        case "fail":
            return messages.ack(lease, messages.EXHAUSTED, destination_arn="arn:x")
        case "bury":
            return messages.bury(lease, ("ValueError", "KeyError")[more % 2])
        case "hand_over":
            return messages.hand_over(lease, destination_arn="arn:d", dead_letter_arn="arn:q")
        case "confirm_queue":
            return messages.confirm(lease, "DEAD_LETTER_QUEUE")
        case "release":
            delay_ms = (0, 0, 5_000, 120_000)[more % 4]
            return messages.release(lease, CAUSES[more % len(CAUSES)], delay_ms, error_type="E" if more % 3 else "")
    plain: dict[str, Any] = {"ack": messages.ack, "extend": messages.extend, "confirm": messages.confirm}
    made: queue_pb2.Settlement = plain[action](lease)
    return made


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


def walk(pair: Pair, rng: random.Random) -> None:
    """One step; the weights keep events on their way rather than ended."""
    pick = rng.randrange(1_000)
    choices: dict[Callable[[], Any], int] = {
        lambda: pair.enqueue([rng.choice((0, pick % 7))], rng.choice(TENANTS), rng.choice(FUNCTIONS), AGES_MS[-1]): 12,
        lambda: pair.send_again(pick): 4,
        lambda: pair.lease_all(rng.choice(POLLERS)): 22,
        lambda: pair.settle([pick], [rng.choice(WALK_ACTIONS)], rng.randrange(1_000)): 40,
        lambda: pair.settle([pick] * 3, rng.choices(WALK_ACTIONS, k=3), rng.randrange(1_000)): 6,
        lambda: pair.give_back(pick): 2,
        lambda: pair.restart_poller(rng.choice(POLLERS)): 1,
        lambda: pair.wait(rng.choice(WAITS_MS)): 14,
        lambda: pair.redrive(rng.choice(TENANTS), pick): 2,
        lambda: pair.purge(rng.choice(TENANTS), pick): 1,
        lambda: pair.end(bool(pick % 2)): 2,
    }
    (step,) = rng.choices(list(choices), weights=list(choices.values()))
    step()


def test_the_stores_agree_over_a_long_walk() -> None:
    """Events that go all their ways, which short runs seldom reach."""
    # The class of a machine has no type of its own to be made.
    make: Any = Pair
    pair, rng = make(), random.Random(WALK_SEED)
    pair.open()
    try:
        for number in range(WALK_STEPS):
            walk(pair, rng)
            if number % 5 == 0:
                pair.they_agree()
        assert len(pair.sent) > 20
    finally:
        pair.teardown()
