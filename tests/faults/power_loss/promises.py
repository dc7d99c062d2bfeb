"""What a client was promised up to a point of the log, and what may therefore be on the disk there.

A client marks each operation before it sends it, with the places where it may leave its events, and after its answer.
An operation without an answer may have happened or not. Operations of one event follow each other, so that an answered
one says that all earlier ones are over.
"""

import json
from dataclasses import dataclass, field

# Places of an event; a string of them means "one of these".
AVAILABLE, HANDOVER, DELAYED, DELAYED_HANDOVER, ENDED, DEAD = "A", "H", "D", "E", "X", "M"
NAMES = {
    AVAILABLE: "available",
    HANDOVER: "in handover",
    DELAYED: "delayed",
    DELAYED_HANDOVER: "delayed in handover",
    ENDED: "ended",
    DEAD: "dead",
}
_OVER = frozenset((ENDED, DEAD))


@dataclass(slots=True)
class Promise:
    """One event: places by its last answered operation, and those of later operations without an answer."""

    operations: dict[int, str] = field(default_factory=dict)
    is_accepted: bool = False
    allowed: str = ""

    def settle(self) -> None:
        """Work out where it may be."""
        self.allowed = "".join(sorted(set("".join(self.operations.values()))))


class Promises:
    """All promises up to a point of the log."""

    def __init__(self) -> None:
        self.events: dict[str, Promise] = {}
        self.accepted = 0
        self.shards = 0
        self._sent: dict[int, list[str]] = {}

    def apply(self, data: bytes) -> None:
        """Take in one mark."""
        kind, *fields = json.loads(data)
        if kind == "send":
            self._send(*fields)
        elif kind == "done":
            self._done(*fields)
        elif kind == "map":
            self.shards = max(self.shards, fields[0])

    def _send(self, number: int, events: list[tuple[str, str]]) -> None:
        self._sent[number] = [event_id for event_id, _ in events]
        for event_id, places in events:
            promise = self.events.setdefault(event_id, Promise())
            promise.operations[number] = places
            promise.settle()

    def _done(self, number: int, refused: list[str]) -> None:
        for event_id in self._sent.pop(number):
            promise = self.events[event_id]
            if number not in promise.operations:
                # A later one was answered before.
                continue
            if event_id in refused:
                del promise.operations[number]
            else:
                self.accepted += not promise.is_accepted
                promise.is_accepted = True
                promise.operations = {n: p for n, p in promise.operations.items() if n >= number}
            promise.settle()


@dataclass(slots=True)
class Findings:
    """What is wrong with one state of the disk; each list holds sentences."""

    lost: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.undone or self.corrupt)


def judge(promises: Promises, found: dict[str, str], excused: set[str], findings: Findings) -> None:
    """Compare promises with the places where each event was found; `excused` ones cannot be looked for."""
    for event_id, promise in promises.events.items():
        if event_id in excused:
            continue
        places = found.get(event_id, "")
        if len(places) > 1:
            findings.corrupt.append(f"{event_id} is there {len(places)} times: {_text(places)}")
        elif not places:
            if promise.is_accepted:
                findings.lost.append(f"{event_id} is gone; it was {_text(promise.allowed)}")
        elif places not in promise.allowed:
            was_over = bool(promise.allowed) and _OVER.issuperset(promise.allowed)
            kind = findings.undone if was_over and places not in _OVER else findings.lost
            kind.append(f"{event_id} is {_text(places)}; it must be {_text(promise.allowed) or 'nowhere'}")
    findings.corrupt += [f"{event_id} was never sent" for event_id in found.keys() - promises.events.keys()]


def _text(places: str) -> str:
    return " or ".join(NAMES[place] for place in places)


def payload_of(event_id: str, size: int) -> bytes:
    """The payload of an event: the id over and over, so that any damage shows."""
    return (b'"' + (event_id.encode() * (size // len(event_id) + 1))[:size] + b'"') if size else b'""'
