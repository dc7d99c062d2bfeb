"""How each attack is carried out on a host, where more than one plain invocation is needed."""

import asyncio
import hashlib
import json
import os
from pathlib import Path

from evenflow.common.v1 import errors_pb2, event_pb2

from cli.output import for_stream
from tests.attacks import zips
from tests.attacks.aftermath import marked, tree
from tests.attacks.cell import KEY, Cell
from tests.attacks.control_run import plain_process
from tests.attacks.finding import Finding, Findings, describe, of_answer
from tests.attacks.host import ATTACKER, OTHER
from tests.attacks.package import bootstrap
from tests.kit.waiting import eventually, until

GONE_SECONDS = 6.0
SHORT_MS = 1_000
FORGED_ID = "00000000-0000-0000-0000-00000000f0f0"
FORGED_SECONDS = 0.3
# A clock's and a meter's tolerance.
NEAR = 0.8
CRASH_SECONDS = 0.5
# Seats are cleared first and may be handed out in another order.
MAX_SEATS_TRIED = 5
BETWEEN_SECONDS = 0.2
READ_BYTES = 4_194_304
NEXT: tuple[str, str] = (ATTACKER, "next")


async def at_once(cell: Cell) -> Findings:
    """Every variant in one sandbox."""
    return await cell.all_at_once()


async def each(cell: Cell) -> Findings:
    """Every variant in its own sandbox."""
    return await cell.one_by_one()


async def disk(cell: Cell) -> Findings:
    """Attack 7: and what it wrote where all could see it."""
    findings = await cell.one_by_one()
    findings["elsewhere"].obtained += [f"{path} is seen by the whole machine" for path in cell.shared_files()]
    return findings


async def links(cell: Cell) -> Findings:
    """Attack 12: and hostile packages."""
    findings = await cell.all_at_once()
    folder = cell.host.packages_folder()
    for name, data in zips.hostile().items():
        finding = findings[f"package: {name}"] = Finding()
        before = _files_below(cell.place.folder)
        cell.host.functions.put(KEY, data, handler="app.handler")
        outcome = await cell.ask({})
        if outcome.refusal.reason == errors_pb2.ERROR_REASON_INVALID_PACKAGE:
            finding.refused[describe(outcome)] = 1
        else:
            finding.obtained.append(f"not refused as a package: {describe(outcome)}")
        if left := [one for one in _files_below(cell.place.folder) - before if zips.NAME in one]:
            finding.obtained.append(f"extracted: {left[:3]}")
        if (folder / hashlib.sha256(data).hexdigest()).exists():
            finding.obtained.append("it is kept among the packages")
    data = zips.with_setuid_bit()
    cell.host.functions.put(KEY, data, handler="app.handler")
    await cell.ask({})
    mode = (folder / hashlib.sha256(data).hexdigest() / zips.NAME).stat().st_mode
    findings["package: setuid bit"] = Finding([f"mode {mode:o}"] if mode & 0o7000 else [])
    return findings


def _files_below(folder: Path) -> set[str]:
    found = {os.path.join(where, name) for where, _, names in os.walk(folder) for name in names}
    return found | {os.path.join("/tmp", name) for name in os.listdir("/tmp")}


async def background(cell: Cell) -> Findings:
    """Attack 14: daemons, and every way in which their sandbox can end."""
    findings: Findings = {}

    async def gone(name: str, **notes: int) -> None:
        finding = findings[name] = Finding(refused=dict(notes))
        try:
            await eventually(lambda: not marked(cell.place.mark), GONE_SECONDS)
        except AssertionError:
            finding.obtained.append(f"{len(marked(cell.place.mark))} processes live on")

    cell.deploy()
    began = await cell.answer({"do": "begin"})
    same = await cell.answer({"do": "count", **began})
    await cell.host.clear()
    await gone("past the sandbox", **{"alive in the next invocation of the same sandbox, as on AWS": same["alive"]})
    cell.deploy(key=NEXT)
    looked = await cell.answer({"do": "look"}, key=NEXT)
    finding = findings["into the next sandbox"] = Finding()
    if looked["pids"]:
        finding.obtained.append(f"processes {looked['pids']}")
    if "ef-attack-left" in looked["tmp"]:
        finding.obtained.append("a file in /tmp")
    await cell.host.clear()
    cell.deploy()
    outcome = await cell.ask({"do": "crash"})
    await gone("past a crash", **{describe(outcome): 1})
    cell.deploy(timeout_ms=SHORT_MS)
    outcome = await cell.ask({"do": "hang"})
    await gone("past a time-out", **{describe(outcome): 1})
    return findings


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


async def poison(cell: Cell) -> Findings:
    """Attack 17: what one leaves behind, looked for by the next version, another function, another tenant."""
    try:
        return await _poison(cell)
    finally:
        # Whatever got through must not be found by the next run.
        await plain_process(cell.place, cell.program, cell.place.event(do="clean"))


async def _poison(cell: Cell) -> Findings:
    findings: Findings = {}
    same_name = (OTHER, KEY[1])

    async def look(name: str, key: tuple[str, str], version: str) -> int:
        answer = await cell.answer({"do": "look"}, key=key)
        finding = findings[name] = Finding(list(answer["found"]))
        if answer["version"] != version:
            finding.obtained.append(f"version {answer['version']} ran")
        return int(answer["uid"])

    cell.deploy()
    left = (await cell.answer({"do": "poison"}))["left"]
    cell.deploy(same_name)
    await look("another tenant", same_name, "1")
    cell.deploy(NEXT)
    await look("another function", NEXT, "1")
    cell.deploy(code_version="2")
    await look("another version", KEY, "2")
    cell.deploy()
    await cell.ask({"do": "crash"})
    kept = (await cell.answer({"do": "look"}))["found"]
    await cell.ask({"do": "crash"})
    cell.deploy(code_version="2")
    await look("another version after a crash", KEY, "2")
    findings["another version after a crash"].refused = {f"the same version finds, as on AWS: {', '.join(kept)}": 1}
    cell.deploy()
    await cell.answer({"do": "look"})
    crashing = cell.host.invoke(KEY[1], cell.place.event(do="crash", seconds=CRASH_SECONDS), tenant_id=KEY[0])
    await until(lambda: _is_busy(cell), GONE_SECONDS)
    cell.deploy(code_version="2")
    await crashing
    await look("another version, deployed before a crash", KEY, "2")
    await cell.host.clear()
    # The seat, its uid and its /tmp are the next sandbox's.
    cell.deploy()
    uid = (await cell.answer({"do": "poison"}))["uid"]
    await cell.host.clear()
    for number in range(MAX_SEATS_TRIED):
        cell.deploy((ATTACKER, f"next-{number}"))
        next_uid = await look("whoever gets the seat", (ATTACKER, f"next-{number}"), "1")
        if next_uid == uid or findings["whoever gets the seat"].obtained:
            break
    findings["whoever gets the seat"].refused["the same user" if next_uid == uid else "another user"] = 1
    findings["another version"].refused |= {f"left where nobody else sees it: {', '.join(left)}": 1}
    return findings


async def _is_busy(cell: Cell) -> bool:
    return any(one.state == "busy" and one.tenant_id == KEY[0] for one in await cell.host.sandboxes())


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
