"""The attacks once more from where a SnapStart function's module loads: a template, which has more than its forks."""

import json

from evenflow.common.v1 import event_pb2

from tests.attacks.cell import Cell
from tests.attacks.finding import Finding, Findings, describe, of_answer

# Those that look around; what a template may take of the machine, it may take as a sandbox.
PROGRAMS = {
    1: "a01_files",
    2: "a02_proc",
    3: "a03_ptrace",
    4: "a04_signals",
    9: "a09_doors",
    10: "a10_network",
    11: "a11_inherited",
    12: "a12_links",
    13: "a13_privileges",
    16: "a16_channels",
    19: "a19_secrets",
}

IN_A_FORK = ", in a fork"


async def drive(cell: Cell) -> Findings:
    """Each program while the module loads, then in a fork of what it loaded."""
    findings: Findings = {}
    for number, program in PROGRAMS.items():
        prefix = f"{number} "
        variants = [name.removeprefix(prefix) for name in cell.variants if _is_at_load_of(name, prefix)]
        wanted = {"program": program, "event": cell.place.event(variants=variants)}
        cell.deploy(snap_start=True, environment={"ATTACK": json.dumps(wanted)})
        at_load = await cell.ask({})
        in_fork = await cell.ask({"program": program, "variants": variants})
        for variant in variants:
            findings[prefix + variant] = _of(at_load, variant)
            findings[prefix + variant + IN_A_FORK] = _of(in_fork, variant)
        await cell.clear()
    return findings


def _is_at_load_of(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and not name.endswith(IN_A_FORK)


def _of(outcome: event_pb2.Outcome, variant: str) -> Finding:
    if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
        # The program catches what it meets: that it did not come to its end is no refusal.
        return Finding([describe(outcome)])
    found: Finding = of_answer(json.loads(outcome.response_payload))[variant]
    return found
