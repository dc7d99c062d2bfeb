"""Whether what the queue reported is what the simulator says of its policy. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.simulate.spread import max_minus_mean

MIN_SEEDS = 20
# Of the simulated mean of max - mean: a ratio of depths near 1.0 would hide errors.
ALLOWED_DIFFERENCE = 0.10


@dataclass(frozen=True, slots=True)
class Verdict:
    """measured, simulated: max - mean in events, means over the seeds; same: seeds in which every depth is the same."""

    measured: float
    simulated: float
    same: int

    @property
    def difference(self) -> float:
        """Measured against simulated: 0.1 is 10 % more."""
        if self.simulated == 0:
            return 0.0 if self.measured == 0 else float("inf")
        return self.measured / self.simulated - 1

    @property
    def agrees(self) -> bool:
        """Whether the policy that was said is the one that was seen."""
        return abs(self.difference) <= ALLOWED_DIFFERENCE


def judge(measured: Sequence[Sequence[int]], simulated: Sequence[Sequence[int]]) -> Verdict:
    """Compare depths of the fleet with simulated ones of the same traffics. ValueError: not one each, or none."""
    if not measured or len(measured) != len(simulated):
        raise ValueError("one simulated run is needed for each measured one, and at least one")
    return Verdict(
        statistics.fmean(map(max_minus_mean, measured)),
        statistics.fmean(map(max_minus_mean, simulated)),
        sum(tuple(mine) == tuple(theirs) for mine, theirs in zip(measured, simulated, strict=True)),
    )
