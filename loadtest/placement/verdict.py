"""Whether what the queue reported is what the simulator says of its policy. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.simulate.spread import max_minus_mean

MIN_SEEDS = 20
# Of the simulated mean of max - mean: a ratio of depths near 1.0 would hide errors.
ALLOWED_DIFFERENCE = 0.10


# A standard error up to this tells a difference of ALLOWED_DIFFERENCE from none.
MAX_ERROR = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """measured, simulated, independent: max - mean in events, means over the seeds.

    simulated: with the fleet's draws; independent: with others. error: the standard error of the difference to
    independent, as a part of independent; seeds: runs; same: those in which every depth is the same.
    """

    measured: float
    simulated: float
    independent: float
    error: float
    seeds: int
    same: int

    @property
    def difference(self) -> float:
        """Measured against simulated: 0.1 is 10 % more."""
        return _relative(self.measured, self.simulated)

    @property
    def independent_difference(self) -> float:
        """Measured against independent."""
        return _relative(self.measured, self.independent)

    @property
    def is_enough(self) -> bool:
        """Whether there are seeds enough to say anything."""
        return self.seeds >= MIN_SEEDS and self.error <= MAX_ERROR

    @property
    def agrees(self) -> bool:
        """Whether the policy that was said is the one that was seen, by both draws; too few seeds never agree."""
        differences = (self.difference, self.independent_difference)
        return self.is_enough and max(map(abs, differences)) <= ALLOWED_DIFFERENCE

    @property
    def text(self) -> str:
        """For people."""
        word = ("agrees" if self.agrees else "DISAGREES") if self.is_enough else "TOO FEW SEEDS"
        return (
            f"{word} ({self.measured:.2f} events; same draws {self.difference:+.1%}, other draws "
            f"{self.independent_difference:+.1%} ± {self.error:.1%})"
        )


def judge(
    measured: Sequence[Sequence[int]], simulated: Sequence[Sequence[int]], independent: Sequence[float]
) -> Verdict:
    """Compare depths of the fleet with simulated ones of the same traffics.

    independent: max - mean of each traffic with draws that the fleet does not have. ValueError: not one each, or none.
    """
    if not measured or not len(measured) == len(simulated) == len(independent):
        raise ValueError("one simulated run of either kind is needed for each measured one, and at least one")
    found = list(map(max_minus_mean, measured))
    # By pairs: what the traffic does to both is no error.
    pairs = [mine - theirs for mine, theirs in zip(found, independent, strict=True)]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else math.inf
    middle = statistics.fmean(independent)
    return Verdict(
        statistics.fmean(found),
        statistics.fmean(map(max_minus_mean, simulated)),
        middle,
        error / middle if middle else (math.inf if error else 0.0),
        len(found),
        sum(tuple(mine) == tuple(theirs) for mine, theirs in zip(measured, simulated, strict=True)),
    )


def _relative(found: float, expected: float) -> float:
    if expected == 0:
        return 0.0 if found == 0 else math.inf
    return found / expected - 1
