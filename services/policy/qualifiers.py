"""From what a caller names to the version that runs: numbers, "$LATEST", and aliases that may split traffic. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.policy.arns import LATEST


@dataclass(frozen=True, slots=True)
class Pointer:
    """An alias: its version, and the shares (0.0 to 1.0) of others by number; the rest is its own version's."""

    version: str
    weights: Mapping[str, float] = field(default_factory=dict)

    def choose(self, draw: float) -> str:
        """The version for one invocation. `draw`: uniform, 0.0 to below 1.0."""
        for version, weight in self.weights.items():
            if draw < weight:
                return version
            draw -= weight
        return self.version


def resolve(qualifier: str, versions: Mapping[str, object], aliases: Mapping[str, Pointer], draw: float) -> str | None:
    """The version's number, or "$LATEST"; None: no such version or alias. `versions`: the published ones by number."""
    if qualifier in ("", LATEST):
        return LATEST
    pointer = aliases.get(qualifier)
    chosen = pointer.choose(draw) if pointer is not None else qualifier
    return chosen if chosen == LATEST or chosen in versions else None
