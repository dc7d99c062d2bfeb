"""The shard against a plain model, through any order of steps, time, full disks and crashes.

`EVENFLOW_MODEL_EXAMPLES=2000` with pytest's `-o timeout=0` runs the long version.
"""

import os
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.queue.model_steps import AGES_MS, HOWS, POLLERS, TABLE, TENANTS, WAITS_MS, Steps

EXAMPLES = int(os.environ.get("EVENFLOW_MODEL_EXAMPLES", "25"))
STEPS = 30
# A seed that has seen every row soon; the bound leaves room for changes of the shard that shift its choices.
WALK_SEED = 9
WALK_LEAST = 1_200
WALK_STEPS = 3_000
PICKS = st.integers(0, 30)
TENANT = st.integers(0, len(TENANTS) - 1)


class ShardMachine(RuleBasedStateMachine):
    """Steps of pollers, frontends, operators, time and crashes."""

    @initialize(window_events=st.sampled_from([1, 2, 512]))
    def begin(self, window_events: int) -> None:
        self.steps = Steps(window_events=window_events)

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.steps.close()

    @rule(tokens=st.lists(st.integers(0, 12), min_size=1, max_size=6), tenant=TENANT, age=st.integers(0, len(AGES_MS)))
    def enqueue(self, tokens: list[int], tenant: int, age: int) -> None:
        self.steps.enqueue(tokens, tenant, age)

    @rule(pick=PICKS)
    def resend(self, pick: int) -> None:
        self.steps.resend(pick)

    @rule(pick=PICKS)
    def resend_changed(self, pick: int) -> None:
        self.steps.resend_changed(pick)

    @rule(poller=st.integers(0, len(POLLERS) - 1), count=st.integers(1, 5))
    def lease(self, poller: int, count: int) -> None:
        self.steps.lease(poller, count)

    @precondition(lambda self: self.steps.model.leased())
    @rule(pick=PICKS, how=st.sampled_from(HOWS))
    def settle(self, pick: int, how: str) -> None:
        self.steps.settle(pick, how)

    @precondition(lambda self: self.steps.model.stale)
    @rule(pick=PICKS, how=st.sampled_from(HOWS))
    def settle_stale(self, pick: int, how: str) -> None:
        self.steps.settle_stale(pick, how)

    @rule(poller=st.integers(0, len(POLLERS) - 1))
    def restart_poller(self, poller: int) -> None:
        self.steps.restart_poller(poller)

    @precondition(lambda self: self.steps.model.leased())
    @rule(pick=PICKS)
    def give_back(self, pick: int) -> None:
        self.steps.give_back(pick)

    @rule(choice=st.integers(0, len(WAITS_MS) - 1))
    def wait(self, choice: int) -> None:
        self.steps.wait(choice)

    @rule(hours=st.sampled_from([-2, -1, 1, 2]))
    def jump_clock(self, hours: int) -> None:
        self.steps.jump_clock(hours)

    @precondition(lambda self: not self.steps.is_full)
    @rule()
    def fill_disk(self) -> None:
        self.steps.fill_disk()

    @precondition(lambda self: self.steps.is_full)
    @rule()
    def free_disk(self) -> None:
        self.steps.free_disk()

    @precondition(lambda self: self.steps.model.of("DEAD"))
    @rule(tenant=TENANT, function=PICKS, limit=st.integers(1, 3))
    def redrive(self, tenant: int, function: int, limit: int) -> None:
        self.steps.redrive(tenant, function, limit)

    @precondition(lambda self: self.steps.model.of("DEAD"))
    @rule(tenant=TENANT, function=PICKS, limit=st.integers(1, 3))
    def purge(self, tenant: int, function: int, limit: int) -> None:
        self.steps.purge(tenant, function, limit)

    @rule()
    def crash(self) -> None:
        self.steps.crash()

    @rule()
    def close_and_open(self) -> None:
        self.steps.close_and_open()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "steps"):
            self.steps.look()
            self.steps.check()


TestShardAgainstModel = ShardMachine.TestCase
TestShardAgainstModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)


def walk(steps: Steps, rng: random.Random) -> None:
    """One step; the weights keep the shard busy rather than full, crashed or empty."""
    pick = rng.randrange(1_000)
    choices = {
        lambda: steps.enqueue([rng.randrange(13) for _ in range(3)], pick, rng.randrange(3)): 10,
        lambda: steps.resend(pick): 12,
        lambda: steps.resend_changed(pick): 2,
        lambda: steps.lease(pick, rng.randint(1, 5)): 22,
        lambda: steps.settle(pick, rng.choice((*HOWS, *["handover"] * 4, "throttle", "now"))): 40,
        lambda: steps.settle_stale(pick, rng.choice(HOWS)): 4,
        lambda: steps.restart_poller(pick): 6,
        lambda: steps.give_back(pick): 4,
        lambda: steps.wait(rng.choices(range(len(WAITS_MS)), (8, 4, 4, 3, 1))[0]): 22,
        lambda: steps.jump_clock(rng.choice([-1, 1])): 1,
        steps.fill_disk: 3,
        steps.free_disk: 9,
        lambda: steps.redrive(pick, rng.randrange(2), 2): 4,
        lambda: steps.purge(pick, rng.randrange(2), 1): 4,
        steps.crash: 3,
        steps.close_and_open: 1,
    }
    (step,) = rng.choices(list(choices), weights=list(choices.values()))
    step()


def test_a_long_walk_takes_every_row_of_the_table() -> None:
    """No row is dead: each has happened on a real shard, where the plain model expected it."""
    rng = random.Random(WALK_SEED)
    steps = Steps(window_events=2)
    try:
        for number in range(WALK_STEPS):
            walk(steps, rng)
            steps.look()
            if number % 5 == 0:
                steps.check()
                if number >= WALK_LEAST and steps.model.noted >= TABLE:
                    break
        assert TABLE - steps.model.noted == set()
    finally:
        steps.close()
