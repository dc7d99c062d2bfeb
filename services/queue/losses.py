"""What a shard held when it was last known: written into the manifest, told when its file is gone or damaged."""

import time
from typing import Protocol

NUMBERS = ("depth", "dead_letters", "accepted_total", "finished_total")


class HasNumbers(Protocol):
    """Numbers of a shard, such as ShardStats."""

    @property
    def depth(self) -> int:
        """Events not settled yet."""

    @property
    def dead_letters(self) -> int:
        """Dead letters kept."""

    @property
    def accepted_total(self) -> int:
        """Accepted since the shard was opened."""

    @property
    def finished_total(self) -> int:
        """Settled to an end since then."""


def known_from(numbers: HasNumbers, at_ms: int) -> dict[str, int]:
    """The numbers to keep, as of this wall time."""
    return {"at_ms": at_ms, **{name: int(getattr(numbers, name)) for name in NUMBERS}}


def describe(known: dict[str, int]) -> str:
    """One sentence on what is out of reach."""
    if "at_ms" not in known:
        return "what it held is not known: it was never noted"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(known["at_ms"] / 1_000))
    depth, dead, accepted, finished = (known.get(name, 0) for name in NUMBERS)
    return (
        f"as of {at} it held {depth} unfinished events and {dead} dead letters "
        f"({accepted} accepted and {finished} finished since it was opened)"
    )
