"""What is compared: policies, and how they are driven."""

from dataclasses import dataclass

POLICY_OF = {
    "hash": ("hash", 2, False),
    "random": ("random", 2, False),
    "best_of_two": ("best_of_two", 2, False),
    "best_of_four": ("best_of_d", 4, False),
    "shuffle_two": ("shuffle_shard", 2, False),
    "shuffle_quota": ("shuffle_shard", 2, True),
}
IN_FLIGHT_A_SHARD = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """One row. `policy` is a key of POLICY_OF; `batch`: events of one tenant that arrive in a row.

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
        """Events of one frontend that are not durable yet: so many callers a shard."""
        return IN_FLIGHT_A_SHARD * self.shards

    @property
    def stale_events(self) -> int:
        """How old, in events, a depth may be that a frontend goes by."""
        return self.in_flight * self.frontends if self.frontends > 1 else 0

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
        name, count, _ = POLICY_OF[self.policy]
        return name, count

    @property
    def tells_quotas(self) -> bool:
        """Whether the configuration has the tenants' quotas; without them a shuffle shard is two wide."""
        return POLICY_OF[self.policy][2]


def all_variants() -> list[Variant]:
    """Every row of the report, those that share a queue node together."""
    rows = [Variant(policy, 16, 100) for policy in POLICY_OF]
    for run, batch, frontends in ((1, 32, 1), (4, 32, 1), (32, 32, 1), (32, 1, 1), (1, 1, 4), (32, 32, 4)):
        rows.append(Variant("best_of_two", 16, 100, choice_run=run, batch=batch, frontends=frontends))
    rows += [Variant(policy, 16, 1_000) for policy in POLICY_OF]
    rows += [Variant(policy, 100, 100) for policy in POLICY_OF]
    return rows
