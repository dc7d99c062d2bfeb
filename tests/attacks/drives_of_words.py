"""How the attacks are carried out that are about words: answers, channels, logs, numbers, secrets."""

import asyncio
import json
import os
from pathlib import Path

from evenflow.common.v1 import event_pb2

from cli.output import for_stream
from tests.attacks.aftermath import tree
from tests.attacks.cell import KEY, Cell
from tests.attacks.finding import Finding, Findings, describe, of_answer
from tests.attacks.host import OTHER
from tests.attacks.package import bootstrap

SHORT_MS = 1_000
FORGED_ID = "00000000-0000-0000-0000-00000000f0f0"
FORGED_SECONDS = 0.3
# A clock's and a meter's tolerance.
NEAR = 0.8
BETWEEN_SECONDS = 0.2
READ_BYTES = 4_194_304


async def answers(cell: Cell) -> Findings:
    """Attack 15: while another invocation of the same function runs in another sandbox."""
    findings: Findings = {}
    for way in (name for name in cell.variants if name != "late"):
        finding = findings[way] = Finding()
        cell.deploy(timeout_ms=SHORT_MS)
        other = os.urandom(16)
        bystander = cell.host.invoke(
            KEY[1], {"do": "be next", "seconds": 0.3, "nonce": way}, tenant_id=KEY[0], request_id=other
        )
        outcome = await cell.ask({"do": way, "other": other.hex(), "nonce": "own"})
        finding.refused[f"its own outcome: {describe(outcome)}"] = 1
        _judge_answer(finding, await bystander, way, "a bystander's")
        _judge_answer(finding, await cell.ask({"do": "", "nonce": "after"}), "after", "the next invocation's")
        await cell.host.clear()
    finding = findings["late"] = Finding()
    cell.deploy()
    await cell.ask({"do": "begin late", "nonce": "begin"})
    _judge_answer(finding, await cell.ask({"do": "be next", "seconds": 0.3, "nonce": "late"}), "late", "the next one's")
    return findings


def _judge_answer(finding: Finding, outcome: event_pb2.Outcome, nonce: str, whose: str) -> None:
    if outcome.status != event_pb2.OUTCOME_STATUS_SUCCEEDED:
        finding.refused[f"{whose}: {describe(outcome)}"] = 1
        # An invocation that was sharing the forger's sandbox may fail; one in another sandbox may not.
        if whose == "a bystander's":
            finding.obtained.append(f"{whose} invocation failed: {describe(outcome)}")
    elif json.loads(outcome.response_payload) != {"nonce": nonce}:
        finding.obtained.append(f"{whose} answer was {outcome.response_payload[:60]!r}")


async def channels(cell: Cell) -> Findings:
    """Attack 16: beside a sandbox of another tenant that has a Runtime API, and is used meanwhile."""
    key = (OTHER, "api")
    cell.host.functions.put(key, bootstrap(), handler="any.handler", runtime="provided.al2023")
    outcome = await cell.host.ask(key, None)
    address = outcome.response_payload.decode() if outcome.status == event_pb2.OUTCOME_STATUS_SUCCEEDED else ""
    cell.deploy()
    attack = asyncio.create_task(cell.answer({"runtime_api": json.loads(address or '""')}))
    errors = []
    while not attack.done():
        meanwhile = await cell.host.ask(key, None)
        if meanwhile.response_payload.decode() != address and address:
            errors.append(f"the other one's answer: {describe(meanwhile)}")
        await asyncio.wait((attack,), timeout=BETWEEN_SECONDS)
    findings = of_answer(await attack)
    findings["Runtime API"].obtained += errors[:1]
    if not address:
        findings["Runtime API"].refused = {f"nobody has one here: {describe(outcome)}": 1}
    return findings


async def forgery(cell: Cell) -> Findings:
    """Attack 18: what the log and the outcome say."""
    findings: Findings = {}
    cell.deploy()
    await cell.ask({"do": "lines"})
    text = await cell.host.log_of(KEY)
    forged = [line for line in text.splitlines() if FORGED_ID in line and line.startswith(("START", "END", "REPORT"))]
    findings["log lines"] = Finding([f"reads as the platform's: {line[:60]}" for line in forged])
    if "\rREPORT" in text:
        findings["log lines"].obtained.append("a carriage return before a forged line")
    if "REPORT RequestId: END RequestId:" in text or "REPORT RequestId: REPORT" in text:
        findings["log lines"].obtained.append("the platform's own line goes on after half a one")
    await cell.ask({"do": "ansi"})
    text = _on_a_terminal(await cell.host.log_of(KEY))
    control = sorted({repr(one) for one in text if (ord(one) < 32 and one not in "\n\t") or 126 < ord(one) < 160})
    findings["terminal control"] = Finding([f"a terminal gets {' '.join(control)}"] if control else [])
    outcome = await cell.ask({"do": "error"})
    findings["error type"] = Finding()
    if any(ord(one) < 32 for one in outcome.error_type):
        findings["error type"].obtained.append(repr(outcome.error_type))
    text = await cell.host.log_of(KEY)
    if any(line.startswith(("END", "REPORT")) and FORGED_ID in line for line in text.splitlines()[-12:]):
        findings["error type"].obtained.append("lines of an error's text read as the platform's")
    outcome = await cell.ask({"do": "numbers", "seconds": FORGED_SECONDS})
    findings["numbers"] = Finding(refused={f"{outcome.duration_us} us, {outcome.max_memory_mb} MB": 1})
    if outcome.duration_us < FORGED_SECONDS * 1e6 * NEAR or outcome.billed_duration_ms < FORGED_SECONDS * 1e3 * NEAR:
        findings["numbers"].obtained.append(f"{outcome.duration_us} us billed of {FORGED_SECONDS} s")
    if outcome.max_memory_mb < cell.place.event()["memory_mb"] // 2 * NEAR:
        findings["numbers"].obtained.append(f"{outcome.max_memory_mb} MB said of 64 MB held")
    return findings


def _on_a_terminal(text: str) -> str:
    """What `evenflow logs` prints there; files and pipes get the bytes as they are."""
    controller, terminal = os.openpty()
    try:
        with open(terminal, "w") as stream:
            return for_stream(text, stream)
    finally:
        os.close(controller)


async def leaks(cell: Cell) -> Findings:
    """Attack 19: the program looks from inside, the harness at command lines, error texts, files."""
    findings = await cell.all_at_once()
    assert cell.host.process is not None
    secrets = {secret.encode() for secret in cell.place.secrets}
    finding = findings["fleet's command lines"] = Finding()
    for pid in tree(cell.host.process.pid):
        if any(secret in _read(Path(f"/proc/{pid}/cmdline")) for secret in secrets):
            finding.obtained.append(f"pid {pid}")
    finding = findings["parents' environment"] = Finding()
    for pid in tree(cell.host.process.pid) - {cell.host.process.pid}:
        found = _read(Path(f"/proc/{pid}/environ"))
        if b"EVENFLOW_" in found or any(secret in found for secret in secrets):
            finding.obtained.append(f"pid {pid}")
    finding = findings["error text"] = Finding()
    outcome = await cell.ask({"do": "error"})
    if str(cell.place.folder).encode() in outcome.response_payload:
        finding.obtained.append("the error names a folder of the host")
    outcome = await cell.ask({"do": "crash"})
    finding.refused[describe(outcome)] = 1
    finding = findings["logs, traces, core files"] = Finding()
    runtime = cell.place.data
    kept = ("packages", "queue", "certs", "buckets", "snapshots", "tmp")
    for where, folders, names in os.walk(runtime):
        folders[:] = [name for name in folders if name not in kept]
        for name in names:
            data = _read(Path(where, name))
            if name.startswith("core") or any(secret in data for secret in secrets):
                finding.obtained.append(os.path.relpath(os.path.join(where, name), runtime))
    if any(secret in _read(cell.host.log_path) for secret in secrets):
        finding.obtained.append("the host's own log")
    return findings


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(READ_BYTES)
    except OSError:
        return b""
