"""Medians, spreads and quantiles; pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """Repeats of one figure: the median, the lowest and highest, and where its middle half lies.

    quarter, three_quarters: None where only the ends are known, as of runs that were saved before they were kept.
    """

    median: float
    low: float
    high: float
    count: int
    quarter: float | None = None
    three_quarters: float | None = None

    @property
    def middle_half(self) -> tuple[float, float]:
        """From a quarter to three quarters: unlike the ends it does not widen with every repeat."""
        low = self.low if self.quarter is None else self.quarter
        return low, self.high if self.three_quarters is None else self.three_quarters


def summarize(values: Sequence[float]) -> Summary:
    """The summary of at least one value. ValueError: there is none."""
    if not values:
        raise ValueError("nothing was measured")
    ends = (values[0], values[0])
    if len(values) > 1:
        quarter, _, three_quarters = statistics.quantiles(values, n=4, method="inclusive")
        ends = (quarter, three_quarters)
    return Summary(statistics.median(values), min(values), max(values), len(values), *ends)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share (0 to 1) of the values does not exceed. ValueError: no values."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def shown(value: float) -> str:
    """A figure for people: three digits that matter, thousands marked."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) < 10 else 1}f}"
