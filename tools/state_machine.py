"""The part of docs/state_machine.md that is printed from the machine itself: picture, states, transitions.

`python -m tools.state_machine` prints it; with `--write` the document gets it. A test fails while they differ.
"""

import argparse
from pathlib import Path

from evenflow.queue.v1 import queue_pb2

from services.queue.states import State
from services.queue.transitions import COUNTS_DELIVERY, TRANSITIONS, Input, Transition

DOCUMENT = Path(__file__).parent.parent / "docs" / "state_machine.md"
BEGIN = "<!-- from the machine: python -m tools.state_machine --write -->\n"
END = "<!-- end of what the machine says -->\n"
# In the tables only: they touch every state.
NOT_DRAWN = frozenset((Input.CRASH,))
STATE_TEXTS = {
    State.GONE: "never seen, or forgotten",
    State.AVAILABLE: "may be leased, in fair order and within limits",
    State.EXPIRED: "past its age and set aside: leased before all others, whatever the limits, to be ended",
    State.DELAYED: "waits for its time; then it goes last in its lane",
    State.LEASED: "a poller has it, to run it; **nothing is written at lease**",
    State.HANDOVER_AVAILABLE: "it was run; its record waits for a poller",
    State.HANDOVER_EXPIRED: "the same, past its age",
    State.HANDOVER_DELAYED: "the record's next try waits for its time",
    State.HANDOVER: "a poller has it, with the handover: to deliver the record, not to run it",
    State.SUCCEEDED: "over: the handler returned; known for a time and up to a number of rows",
    State.FAILED: "over: it failed, and its destination has the record",
    State.DEAD: "over until it is redriven; kept with payload and response",
}
INPUT_TEXTS = {
    Input.ACK: "settled: it is over",
    Input.RELEASE: "settled: it comes back",
    Input.HANDOVER: "settled: run, and the record is stored before it is delivered",
    Input.DEAD_LETTER: "settled: it is dead",
    Input.EXTEND: "settled: the lease starts anew",
    Input.CONFIRM: "settled: of destination and dead-letter queue, one has it; the lease starts anew",
    Input.ENQUEUE: "a frontend sends it",
    Input.LEASE: "a poller gets it",
    Input.LEASE_EXPIRED: "its visibility timeout is over",
    Input.SESSION_GONE: "its poller was started anew",
    Input.UNDELIVERED: "its lease never left the node",
    Input.UNCOUNTED: "its lease ended, and the full volume cannot store that",
    Input.DUE: "the time it was delayed to has come",
    Input.AGE_OVER: "it is past its age",
    Input.REDRIVE: "somebody gives it a fresh life",
    Input.PURGE: "somebody drops it",
    Input.FORGET: "it was kept long enough",
    Input.CRASH: "the process ended in whatever way; the file is opened anew",
}
UNCHANGED_NOTES = {
    Input.ENQUEUE: "a duplicate; refused when a derived id comes with another body (`TOKEN_REUSED`)",
    Input.CRASH: "what is stored stays",
}


def name_of(given: Input) -> str:
    """An input as people write it."""
    return given.name.lower().replace("_", " ")


def picture() -> list[str]:
    """A Mermaid diagram of every transition that goes somewhere else."""
    labels: dict[tuple[State, State], list[str]] = {}
    for row in TRANSITIONS:
        if row.before is not row.after and row.given not in NOT_DRAWN:
            text = name_of(row.given)
            found = labels.setdefault((row.before, row.after), [])
            if text not in found:
                found.append(text)
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, after), texts in labels.items():
        ends = ["[*]" if state is State.GONE else state.name for state in (before, after)]
        lines.append(f"  {ends[0]} --> {ends[1]}: {', '.join(texts)}")
    return [*lines, "```"]


def states() -> list[str]:
    """The table of states."""
    lines = ["| state | is | row in | callers see | left by |", "|---|---|---|---|---|"]
    for state in State:
        left_by = dict.fromkeys(
            name_of(row.given) for row in TRANSITIONS if row.before is state and row.after is not state
        )
        seen = queue_pb2.EventState.Name(state.reported).removeprefix("EVENT_STATE_")
        seen = "nothing" if state is State.GONE else seen
        place = "nowhere" if state is State.GONE else f"`{state.place.value}`"
        lines.append(f"| {state.name} | {STATE_TEXTS[state]} | {place} | {seen} | {', '.join(left_by)} |")
    return lines


def effect_of(row: Transition) -> str:
    """What else happens, in short."""
    if row.given in COUNTS_DELIVERY:
        return "`deliveries` + 1"
    if row.given is Input.RELEASE:
        return "the counter of its cause + 1"
    if row.given is Input.CONFIRM and row.before.has_handover:
        return "stored; the lease runs anew"
    if row.given is Input.REDRIVE:
        return "counters 0, a fresh age, the same id"
    if row.after is row.before:
        return "the lease runs anew" if row.before.is_leased else ""
    return ""


def transitions() -> list[str]:
    """The table of transitions; states that an input leaves as they are share a line."""
    lines = ["| state | input | when | becomes | and |", "|---|---|---|---|---|"]
    shared: dict[Input, list[State]] = {given: [] for given in UNCHANGED_NOTES}
    for row in TRANSITIONS:
        if row.given in shared and row.before is row.after:
            shared[row.given].append(row.before)
            continue
        cells = (row.before.name, name_of(row.given), row.guard.text, row.after.name, effect_of(row))
        lines.append(f"| {' | '.join(cells)} |")
    for given, kept in shared.items():
        names = ", ".join(state.name for state in kept)
        lines.append(f"| {names} | {name_of(given)} |  | unchanged | {UNCHANGED_NOTES[given]} |")
    return lines


def inputs() -> list[str]:
    """The table of inputs."""
    lines = ["| input | means |", "|---|---|"]
    return [*lines, *(f"| {name_of(given)} | {INPUT_TEXTS[given]} |" for given in Input)]


def text() -> str:
    """All of it."""
    parts = (picture(), ["### States"], states(), ["### Inputs"], inputs(), ["### Transitions"], transitions())
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def replaced(document: str) -> str:
    """The document with the machine's part in place. ValueError: it lacks the marks."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} lacks the line {BEGIN.strip()!r} or {END.strip()!r}")
    return f"{head}{begin}{text()}{end}{tail}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/state_machine.md")
    if parser.parse_args().write:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text()))
    else:
        print(text(), end="")
