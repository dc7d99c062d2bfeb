"""What may be on the disk after what a client was told."""

import json
from typing import Any

import pytest

from tests.faults.power_loss.promises import Findings, Promises, judge


def _judge(marks: list[list[Any]], found: dict[str, str]) -> str:
    promises, findings = Promises(), Findings()
    for mark in marks:
        promises.apply(json.dumps(mark).encode())
    judge(promises, found, set(), findings)
    kinds = [name for name in ("lost", "undone", "corrupt") if getattr(findings, name)]
    return " ".join(kinds)


SENT = ["send", 1, [["e", "A"]]]
ACCEPTED = [SENT, ["done", 1, []]]
ACK = ["send", 2, [["e", "X"]]]
HANDED = [*ACCEPTED, ["send", 2, [["e", "H"]]], ["done", 2, []]]


@pytest.mark.parametrize(
    ("marks", "found", "wrong"),
    [
        ([SENT], "", ""),
        ([SENT], "A", ""),
        ([SENT], "X", "lost"),
        (ACCEPTED, "A", ""),
        (ACCEPTED, "", "lost"),
        (ACCEPTED, "AA", "corrupt"),
        (ACCEPTED, "X", "lost"),
        ([*ACCEPTED, ACK], "A", ""),
        ([*ACCEPTED, ACK], "X", ""),
        ([*ACCEPTED, ACK], "M", "lost"),
        ([*ACCEPTED, ACK, ["done", 2, []]], "X", ""),
        ([*ACCEPTED, ACK, ["done", 2, []]], "A", "undone"),
        ([*ACCEPTED, ACK, ["done", 2, ["e"]]], "X", "lost"),
        (HANDED, "H", ""),
        (HANDED, "A", "lost"),
        (HANDED, "X", "lost"),
        # Answered out of order: the later answer says that the earlier operation is over.
        ([SENT, ACK, ["done", 2, []], ["done", 1, []]], "X", ""),
        ([SENT, ACK, ["done", 2, []]], "", "lost"),
        ([["send", 1, [["e", "A"]]], ["done", 1, ["e"]]], "", ""),
    ],
)
def test_an_event_is_where_its_answers_say(marks: list[list[Any]], found: str, wrong: str) -> None:
    assert _judge(marks, {"e": found} if found else {}) == wrong


def test_what_nobody_sent_is_corrupt() -> None:
    assert _judge([], {"e": "A"}) == "corrupt"
