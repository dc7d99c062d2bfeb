"""What every driver of a run is told when it starts, beside the options: it travels with them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Under this name it stands among the parsed options, which Locust sends to every driver.
ATTRIBUTE = "evenflow_run"


@dataclass(frozen=True, slots=True)
class Order:
    """One run. run: tells runs apart, 0 to 2**32 - 1; seconds: of the schedule.

    drivers: Locust's ids of the processes that share the schedule, in the order of their parts. users: the user
    classes whose kinds of requests are sent, with their weights.
    """

    run: int
    seconds: float
    drivers: Sequence[str]
    users: Mapping[str, float]

    def part_of(self, driver: str) -> int | None:
        """Which part this driver sends; None: it came after the start and sends none."""
        return self.drivers.index(driver) if driver in self.drivers else None


def as_plain(order: Order) -> dict[str, Any]:
    """For Locust's messages; `from_plain` takes it back."""
    return {**asdict(order), "drivers": list(order.drivers), "users": dict(order.users)}


def from_plain(told: Mapping[str, Any]) -> Order:
    """What as_plain gave. KeyError, TypeError: it is something else."""
    return Order(**{**told, "drivers": tuple(told["drivers"])})
