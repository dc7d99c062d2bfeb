"""Attacks on one host, as the user that calls: `python -m tests.attacks.column NAME FOLDER [--quick] [NUMBER...]`.

Prints JSON. It is a process of its own, so that an attack that gets through hits this and not the suite.
"""

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from loadtest.runtime_bench import HostEndedError
from tests.attacks import columns, control_run
from tests.attacks.attacks import BY_NUMBER, Attack
from tests.attacks.cell import Cell, NotCarriedOutError
from tests.attacks.columns import Column
from tests.attacks.finding import Finding, Findings
from tests.attacks.host import AttackHost, HostLostError
from tests.attacks.neighbour import Neighbour, Record
from tests.attacks.place import MAX_FILES, MAX_PROCESSES, TMP_MB, Place
from tests.kit.waiting import eventually

# Not variants of an attack, but judged like them.
NEIGHBOUR, LEFT, HOST, FAILED = "neighbours notice", "something is left", "the host is lost", "not carried out"
REASON_LINES = 3
QUICK = "--quick"
CONTROL_FILES = 10_000


def settings_of(column: Column) -> dict[str, str]:
    """The host's settings."""
    return {
        "EVENFLOW_SANDBOX_ISOLATION": column.isolation,
        "EVENFLOW_SANDBOX_NETWORK": column.network,
        "EVENFLOW_SANDBOX_MAX_PROCESSES": str(MAX_PROCESSES),
        "EVENFLOW_SANDBOX_MAX_FILES": str(MAX_FILES),
        "EVENFLOW_SANDBOX_TMP_MB": str(TMP_MB),
        "EVENFLOW_RUNTIME_MAX_SANDBOXES": "16",
    }


class Scene:
    """A place, a host and a neighbour, up."""

    def __init__(self, folder: Path, column: Column) -> None:
        self.place = Place(folder)
        self.host = AttackHost(self.place, settings_of(column))
        self.neighbour = Neighbour(self.host, self.place)

    async def start(self) -> None:
        """HostEndedError: this column is not to be had here; HostLostError: it is, and does not work."""
        await self.place.prepare()
        await self.host.start()
        assert self.host.process is not None
        self.place.pids["host"] = self.host.process.pid
        await self.neighbour.start()
        pids = {one.pid for one in await self.host.sandboxes()}
        parents = [int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids]
        self.place.pids["parent"] = parents[0]

    async def stop(self) -> None:
        """All down."""
        await self.neighbour.stop()
        if self.host.process is not None and self.host.process.returncode is None:
            await self.host.stop()
        await self.place.close()
        outside = self.host.sandbox_folder()
        if not outside.is_relative_to(self.place.folder):
            await asyncio.to_thread(shutil.rmtree, outside, True)

    def reason(self) -> str:
        """The host's last words."""
        lines = self.host.log_path.read_text(errors="replace").strip().splitlines()[-REASON_LINES:]
        texts = [json.loads(line).get("message", line) if line.startswith("{") else line for line in lines]
        return " ".join(texts).removeprefix("cannot start: ").removeprefix("error: ")


async def run_column(column: Column, folder: Path, attacks: list[Attack]) -> dict[str, Any]:
    """Facts of every attack; {"supported": False, "reason": ...} when the host refuses to start."""
    rows: dict[str, Any] = {}
    left = [attack for attack in attacks if attack.is_tried(column.name)]
    scenes = 0
    tier = ""
    while left:
        scenes += 1
        own = folder / str(scenes)
        own.mkdir(mode=0o700)
        scene = Scene(own, column)
        try:
            await scene.start()
            described = await scene.host.describe()
            tier = described.isolation_tier
            if tier != column.tier:
                return {"supported": False, "reason": f"the host is in tier {tier}"}
            while left:
                attack = left.pop(0)
                print(f"{column.name}: {attack.name}", file=sys.stderr, flush=True)
                row = rows[str(attack.number)] = await _carry_out(scene, attack)
                if row["findings"].keys() & {HOST, FAILED}:
                    # It goes on with a fresh host.
                    break
        except HostEndedError:
            return {"supported": False, "reason": scene.reason()}
        finally:
            await scene.stop()
    return {"supported": True, "tier": tier, "attacks": rows}


async def _carry_out(scene: Scene, attack: Attack) -> dict[str, Any]:
    began = time.monotonic()
    controls = await _controls(scene.place, attack)
    await scene.place.revive()
    cell = Cell(scene.host, scene.place, attack.program, attack.variants)
    findings: Findings = {}
    record = Record()
    try:
        await cell.begin()
        scene.neighbour.take()
        findings = await attack.drive(cell)
        if left := await cell.clear():
            findings[LEFT] = Finding(left)
        # The neighbour has been served at least once since.
        served = scene.neighbour.served
        await eventually(lambda: scene.neighbour.served > served, 10.0)
        record = scene.neighbour.take()
        if complaints := record.complaints:
            findings[NEIGHBOUR] = Finding(complaints)
    except NotCarriedOutError as e:
        findings[FAILED] = Finding([str(e)])
    except (HostLostError, AssertionError) as e:
        findings[HOST] = Finding([str(e)])
    return {
        "seconds": round(time.monotonic() - began, 1),
        "findings": {name: finding.facts() for name, finding in findings.items()},
        "controls": {name: finding.facts() for name, finding in controls.items()},
        "neighbour": record.facts(),
    }


async def _controls(place: Place, attack: Attack) -> Findings:
    if not attack.controls:
        return {}
    # The victim alone: a control must not touch what else runs on this machine.
    event = place.event(
        variants=list(attack.controls),
        pids={"victim": place.pids["victim"]},
        only_named_pids=True,
        is_control=True,
        token=place.token,
        # Nothing bounds it: fewer show the same.
        files=CONTROL_FILES,
    )
    inherited = place.paths["shard"] if attack.program == "a11_inherited" else ""
    return await control_run.control(place, attack.program, event, inherited)


def main(arguments: list[str]) -> int:
    """Exit code 0 with facts on standard output."""
    name, folder, *rest = arguments
    numbers = [int(text) for text in rest if text != QUICK]
    attacks = [BY_NUMBER[number] for number in numbers] or list(BY_NUMBER.values())
    if QUICK in rest:
        attacks = [attack.without_slow() for attack in attacks]
    facts = uvloop.run(run_column(columns.BY_NAME[name], Path(folder), attacks))
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
