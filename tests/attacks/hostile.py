"""The hostile handlers of the fault matrix: each ends with a typed error, and nobody else notices."""

from evenflow.common.v1 import event_pb2

from tests.attacks.cell import Cell
from tests.attacks.finding import Finding, Findings, describe

TIMEOUT_MS = 1_000
KILLED = ("Runtime.ExitError",)
TIMED_OUT = ("Sandbox.Timedout",)
# How each way may end: the limit is an error that the handler gets, or the end of its sandbox.
EXPECTED: dict[str, tuple[str, ...]] = {
    "forks": ("BlockingIOError", "PermissionError", *KILLED),
    "setsid": TIMED_OUT,
    "ignores signals": TIMED_OUT,
    "memory": ("MemoryError", "Runtime.OutOfMemory", *KILLED),
    "processes": TIMED_OUT,
    "descriptors": ("OSError",),
    "disk": ("OSError", *KILLED),
    "CPU": TIMED_OUT,
    "closes its descriptors": KILLED,
    "shuts its channel": KILLED,
    "logs": (),
    "forged frames": KILLED,
    "exits": KILLED,
    "crashes": KILLED,
    "stops itself": TIMED_OUT,
}
# What one invocation may put into its log, with the platform's own lines.
MAX_LOG_BYTES = 1_048_576 + 65_536


async def drive(cell: Cell) -> Findings:
    """One way after the other; the neighbour is watched by the column."""
    findings: Findings = {}
    for way in cell.variants:
        cell.deploy(timeout_ms=TIMEOUT_MS if "Sandbox.Timedout" in EXPECTED[way] else 20_000)
        outcome = await cell.ask({"way": way})
        finding = findings[way] = Finding(refused={describe(outcome): 1})
        is_ok = outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED
        if is_ok != (way == "logs") or (not is_ok and outcome.error_type not in EXPECTED[way]):
            finding.obtained.append(f"it ended with {describe(outcome)}")
        if way == "logs":
            size = sum(
                path.stat().st_size for path in cell.host.folder.glob("data/runtime/*/logs/attacker/attack.log*")
            )
            if size > MAX_LOG_BYTES:
                finding.obtained.append(f"{size} bytes are in its log")
        if left := await cell.clear():
            finding.obtained += [f"left behind: {one}" for one in left]
    return findings
