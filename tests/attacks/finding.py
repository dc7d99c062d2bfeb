"""What came of one variant of an attack."""

import json
from dataclasses import dataclass, field
from typing import Any

from evenflow.common.v1 import event_pb2


@dataclass(slots=True)
class Finding:
    """obtained: the attack's success, in its own words; refused: what it met instead, with how often."""

    obtained: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For the report."""
        return {"obtained": self.obtained, "refused": self.refused}


Findings = dict[str, Finding]


def of_answer(answer: dict[str, Any]) -> Findings:
    """What a program returned."""
    return {name: Finding(list(one["obtained"]), dict(one["refused"])) for name, one in answer.items()}


def of_outcome(outcome: event_pb2.Outcome) -> Findings | Finding:
    """The program's findings, or the one of its sandbox's end."""
    if outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED:
        return of_answer(json.loads(outcome.response_payload))
    return Finding(refused={describe(outcome): 1})


def describe(outcome: event_pb2.Outcome) -> str:
    """How it ended, in a few words, without what differs each time."""
    if outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED:
        return "success"
    if outcome.error_type:
        _, _, text = outcome.error_message.rpartition("Error: ")
        return f"{outcome.error_type}: {text}"[:120]
    return f"refused: {outcome.refusal.message}"[:160]
