"""Goals of the design's performance page and whether a figure meets them; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """On which side of the goal a figure has to be."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound: absolute, or that many times the best of the peers named."""

    kind: Kind
    bound: float
    # Peers by key; empty: the bound is absolute, in the row's unit.
    against: tuple[str, ...] = ()
    is_stretch: bool = False

    def text(self, unit: str, names: Mapping[str, str]) -> str:
        """The goal in words."""
        sign = ">=" if self.kind is Kind.AT_LEAST else "<="
        start = "stretch: " if self.is_stretch else ""
        if not self.against:
            return f"{start}{sign} {self.bound:g} {unit}"
        *others, last = (names[key] for key in self.against)
        return f"{start}{sign} {self.bound:g}x {', '.join(others)}{' and ' if others else ''}{last}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out. `ratio`: figure over the peers' best; None without peers. `is_met` None: a peer is missing."""

    ratio: float | None
    is_met: bool | None

    @property
    def word(self) -> str:
        """For people."""
        return {True: "met", False: "missed", None: "not measured"}[self.is_met]


def judge(goal: Goal, figure: float, peers: Mapping[str, float]) -> Verdict:
    """Compare a figure with a goal; every peer that the goal names must be there."""
    bound, ratio = goal.bound, None
    if goal.against:
        found = [peers[key] for key in goal.against if key in peers]
        if len(found) < len(goal.against):
            return Verdict(None, None)
        best = max(found) if goal.kind is Kind.AT_LEAST else min(found)
        ratio = figure / best
        bound = goal.bound * best
    return Verdict(ratio, figure >= bound if goal.kind is Kind.AT_LEAST else figure <= bound)
