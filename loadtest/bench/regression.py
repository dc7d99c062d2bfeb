"""Whether a figure has become worse since a saved run, or only moved; pure.

What the machine does beside the bench moves Evenflow and its peers alike, so where the row's goals name peers the ratio
to them is judged, and it has to be worse against each of them: one peer that had a good day is no regression. Against
the last saved run, and against the middle of the last few: small losses add up, and each new run moves the baseline.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from loadtest.bench import history
from loadtest.bench.history import SavedRow, SavedRun
from loadtest.bench.rows import ROWS, Row
from loadtest.bench.stats import Summary

# What has moved by less than this share is as it was, even if the spreads are apart.
LEAST_SHARE = 0.05
# The same where a figure has a single value in either run, and so no spread that tells noise apart.
LEAST_SHARE_UNSPREAD = 0.25
# Of percentages, which may be near 0: by so many points.
LEAST_POINTS, LEAST_POINTS_UNSPREAD = 2.0, 5.0
# With fewer runs there is no middle that is another than the last.
LEAST_RUNS = 3


class Trend(Enum):
    """Where a figure went, as the table says it."""

    WORSE = "regression"
    SAME = ""
    BETTER = "better"


@dataclass(frozen=True, slots=True)
class Change:
    """`moved`: of the ratio or figure, as a share of what it was (of percentages: in points).

    runs: since the last saved run, 1, or since the middle of so many.
    """

    trend: Trend
    moved: float
    is_ratio: bool
    is_points: bool
    runs: int = 1

    def text(self) -> str:
        """For people."""
        size = f"{self.moved:+.1f} points" if self.is_points else f"{100 * self.moved:+.0f} %"
        word = f" {self.trend.value}" if self.trend.value else ""
        since = f" since the middle of {self.runs} runs" if self.runs > 1 else ""
        return f"{size}{' (ratio)' if self.is_ratio else ''}{since}{word}"


def compare(now: SavedRun, before: Sequence[SavedRun]) -> dict[str, Change]:
    """By measure: each row that is in the last of these runs, or in several, in the same unit.

    before: runs to compare with, oldest first. What is worse than the middle of them is a regression, though it is as
    it was in the last.
    """
    if not before:
        return {}
    changes = _compare(now, before[-1].rows)
    if len(before) >= LEAST_RUNS:
        for measure, change in _compare(now, history.middle(before)).items():
            was = changes.get(measure)
            if was is None or (change.trend is Trend.WORSE and was.trend is not Trend.WORSE):
                changes[measure] = dataclasses.replace(change, runs=len(before))
    return changes


def worse(changes: Mapping[str, Change]) -> list[str]:
    """The titles of the rows that are a regression."""
    return [row.title for row in ROWS if row.measure in changes and changes[row.measure].trend is Trend.WORSE]


def _compare(now: SavedRun, then: Mapping[str, SavedRow]) -> dict[str, Change]:
    return {
        row.measure: judge(row, now.rows[row.measure], then[row.measure])
        for row in ROWS
        if row.measure in now.rows and row.measure in then and now.rows[row.measure].unit == then[row.measure].unit
    }


def judge(row: Row, now: SavedRow, then: SavedRow) -> Change:
    """Beyond the middle halves of both and by more than the least that counts: a regression, or better."""
    named = {key for goal in row.goals for key in goal.against}
    peers = [key for key in row.peers if key in named and key in now.ratios and key in then.ratios]
    is_points = row.unit == "%" and not peers
    pairs = [(now.ratios[key], then.ratios[key]) for key in peers] or [(now.evenflow, then.evenflow)]
    found = [_one(a, b, is_higher_better=row.is_higher_better, is_points=is_points) for a, b in pairs]
    trends = {trend for trend, _ in found}
    return Change(
        trend=trends.pop() if len(trends) == 1 else Trend.SAME,
        moved=min((moved for _, moved in found), key=abs),
        is_ratio=bool(peers),
        is_points=is_points,
    )


def _one(now: Summary, then: Summary, *, is_higher_better: bool, is_points: bool) -> tuple[Trend, float]:
    if is_points:
        moved = now.median - then.median
    elif then.median:
        moved = now.median / then.median - 1
    else:
        # From nothing there is no share.
        return Trend.SAME, 0.0
    is_unspread = min(now.count, then.count) < 2
    least = LEAST_SHARE_UNSPREAD if is_unspread else LEAST_SHARE
    if is_points:
        least = LEAST_POINTS_UNSPREAD if is_unspread else LEAST_POINTS
    (low, high), (was_low, was_high) = now.middle_half, then.middle_half
    is_apart = low > was_high if moved > 0 else high < was_low
    if abs(moved) <= least or not is_apart:
        return Trend.SAME, moved
    return Trend.BETTER if (moved > 0) == is_higher_better else Trend.WORSE, moved


def note(before: Sequence[SavedRun], changes: Mapping[str, Change]) -> str:
    """What the column "change" is against, in words."""
    if not before:
        return "change: no run on a machine like this one is saved (docs/benchmarks/history.jsonl)"
    count = len(worse(changes))
    verdict = f"{count} regressions" if count != 1 else "1 regression"
    then = before[-1]
    middle = f", and against the middle of the last {len(before)}" if len(before) >= LEAST_RUNS else ""
    return (
        f"change: against the saved run of {then.time}, commit {then.commit}, on a machine like this one{middle}: "
        f"{verdict}. (ratio): of the ratio to the peers that the goal names. A regression is worse, the middle halves "
        f"of both runs' rounds apart, by more than {100 * LEAST_SHARE:.0f} % ({100 * LEAST_SHARE_UNSPREAD:.0f} % of a "
        "single value)"
    )
