"""The few functions of scipy that a plan uses, with types: scipy ships none."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Numbers = NDArray[np.float64]


def t_quantile(part: float, degrees: int) -> float:
    """Of Student's t-distribution."""
    return float(stats.t.ppf(part, degrees))  # type: ignore[attr-defined]


def least_squares_from_zero(columns: Numbers, values: Numbers) -> Numbers:
    """Linear least squares whose coefficients are at least 0 (Lawson and Hanson)."""
    found: Numbers = optimize.nnls(columns, values)[0]  # type: ignore[attr-defined]
    return found


def never_falling(values: Sequence[float], weights: Sequence[float]) -> Numbers:
    """Isotonic least squares (pool adjacent violators)."""
    found: Numbers = optimize.isotonic_regression(values, weights=weights).x  # type: ignore[attr-defined]
    return found


def fit_curve(
    law: Callable[..., Numbers], x: Numbers, y: Numbers, start: Numbers, largest: Sequence[float]
) -> list[float]:
    """Parameters between 0 and `largest` whose curve has the least squared relative errors."""
    lowest = [0.0] * len(start)
    found, _ = optimize.curve_fit(law, x, y, p0=start, sigma=y, bounds=(lowest, largest))  # type: ignore[no-untyped-call]
    return [float(one) for one in found]
