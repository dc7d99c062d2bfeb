"""How the attacks are carried out that are about what outlives a sandbox: processes, and what they left."""

from tests.attacks.aftermath import marked
from tests.attacks.cell import KEY, Cell
from tests.attacks.control_run import plain_process
from tests.attacks.finding import Finding, Findings, describe
from tests.attacks.host import ATTACKER, OTHER
from tests.kit.waiting import eventually, until

GONE_SECONDS = 6.0
SHORT_MS = 1_000
CRASH_SECONDS = 0.5
# Seats are cleared first and may be handed out in another order.
MAX_SEATS_TRIED = 5
NEXT: tuple[str, str] = (ATTACKER, "next")


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
