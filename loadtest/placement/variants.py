"""What is compared: policies, and how they are driven."""

import random
from dataclasses import dataclass

from loadtest.simulate.choices import POLICIES
from services.policy.shard_choice import Draw

# Several frontends do not know each other's; one knows its own at once, but counts a send twice while a report that has
# it in is ahead of its answer, which the simulator does not: few, so that neither is large.
IN_FLIGHT_A_SHARD = 1
# Runs of a row for each that is asked for: what chance does to a policy's max - mean decides how many tell a tenth.
SEEDS_FACTORS = {"hash": 1, "random": 5, "best_of_two": 5, "best_of_four": 2, "shuffle_two": 1, "shuffle_quota": 3}
SEEDS_FACTOR_OF_SEVERAL = 5


@dataclass(frozen=True, slots=True)
class Variant:
    """One row. `policy` is a key of choices.POLICIES; `batch`: events of one tenant that arrive in a row.

    `choice_run` is the frontend's setting; `frontends` place at the same time, each with depths of its own.
    """

    policy: str
    shards: int
    events_a_shard: int
    choice_run: int = 1
    batch: int = 1
    frontends: int = 1

    @property
    def events(self) -> int:
        """Events of one run."""
        return self.shards * self.events_a_shard

    @property
    def in_flight(self) -> int:
        """Events of one frontend that are not durable yet, at most."""
        return max(self.batch, IN_FLIGHT_A_SHARD * self.shards)

    def seeds(self, wanted: int) -> int:
        """Seeds of this row when `wanted` are asked for."""
        return wanted * (SEEDS_FACTOR_OF_SEVERAL if self.frontends > 1 else SEEDS_FACTORS[self.policy])

    @property
    def is_plain(self) -> bool:
        """Whether each event is chosen by itself, by one frontend."""
        return self.choice_run == self.frontends == self.batch == 1

    @property
    def name(self) -> str:
        """The row's key in the recorded file."""
        more = "".join(
            f", {word} {value}"
            for word, value in (("run", self.choice_run), ("batch", self.batch), ("frontends", self.frontends))
            if value > 1
        )
        return f"{self.policy}{more} | {self.shards} shards, {self.events_a_shard} a shard"

    @property
    def settings(self) -> tuple[str, int]:
        """frontend.shard_choice and frontend.shard_choice_d."""
        named = POLICIES[self.policy]
        return named.setting, named.count

    @property
    def tells_quotas(self) -> bool:
        """Whether the configuration has the tenants' quotas; without them a shuffle shard is two wide."""
        return POLICIES[self.policy].tells_quotas


def draw_of(seed: int, frontend: int) -> Draw:
    """What this frontend draws with: the same numbers in the fleet and in the simulator."""
    return random.Random(f"frontend {frontend} {seed}").random


def all_variants() -> list[Variant]:
    """Every row of the report, those that share a queue node together."""
    rows = [Variant(policy, 16, 100) for policy in POLICIES]
    for run, batch, frontends in ((1, 32, 1), (4, 32, 1), (32, 32, 1), (1, 1, 2), (1, 1, 4)):
        rows.append(Variant("best_of_two", 16, 100, choice_run=run, batch=batch, frontends=frontends))
    rows.append(Variant("best_of_four", 16, 100, frontends=4))
    rows += [Variant(policy, 16, 1_000) for policy in POLICIES]
    rows += [Variant(policy, 100, 100) for policy in POLICIES]
    return rows
