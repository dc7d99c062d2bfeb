"""How attacks are carried out on a host: at once, one by one, and those on files."""

import hashlib
import os
from pathlib import Path

from evenflow.common.v1 import errors_pb2

from tests.attacks import zips
from tests.attacks.cell import KEY, Cell
from tests.attacks.finding import Finding, Findings, describe


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
