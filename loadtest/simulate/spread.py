"""How uneven depths are: max - mean, which tells errors apart that a ratio near 1.0 hides, and max / mean."""

from collections.abc import Sequence


def mean(depths: Sequence[int]) -> float:
    """Events a shard."""
    return sum(depths) / len(depths)


def max_minus_mean(depths: Sequence[int]) -> float:
    """Events by which the deepest shard is above the mean; 0 is perfect."""
    return max(depths) - mean(depths)


def max_over_mean(depths: Sequence[int]) -> float:
    """The deepest shard as a multiple of the mean; 1.0 is perfect."""
    return max(depths) / mean(depths)
