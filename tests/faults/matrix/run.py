"""One cell under one seed: start, load, fault, drain, look, judge, stop, and nothing left behind."""

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.faults.matrix import functions
from tests.faults.matrix.cell import Cell, Result
from tests.faults.matrix.checker import check
from tests.faults.matrix.client import Client, Load
from tests.faults.matrix.history import History
from tests.faults.matrix.mutants import VARIABLE
from tests.faults.matrix.probe import EVENTS as PROBES
from tests.faults.matrix.probe import Probe
from tests.faults.matrix.rig import Rig
from tests.kit.waiting import wait_until

# Of the load, before the fault begins.
LEAD_PART = 0.2
# AWS's three runs of a failing event: retries of the functions are the default two.
MAX_FUNCTION_ERRORS = 3
EVENTS_PER_SECOND = 1_000.0
END_SECONDS = 10.0


def run(cell: Cell, seed: int, events: int, mutant: str = "") -> Result:
    """Run it. What does not come about within its bound (a node that does not serve again, a queue that does not
    drain) is told in `broken`, as whatever the checker finds is."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ef-fault-", dir="/tmp") as name:
        folder = Path(name)
        rig = Rig(cell, seed, folder, {VARIABLE: mutant} if mutant else {})
        load = Load(**{"events": events, "per_second": EVENTS_PER_SECOND, "seed": seed, **cell.load})
        broken: list[str] = []
        history = History((), (), (), MAX_FUNCTION_ERRORS)
        try:
            with rig.fleet:
                rig.deploy()
                history, broken = _in_fleet(rig, load)
        except Exception as e:
            # A fleet that does not come up or does not answer is a finding like any other.
            broken.append(f"{type(e).__name__}: {e}")
        broken += [*rig.broken, *_left_behind(folder)]
        verdict = check(history)
        recovery = max(rig.recoveries, default=None)
        if cell.bound_seconds and recovery is not None and recovery > cell.bound_seconds:
            broken.append(f"recovery took {recovery:.1f} s; {cell.bound_seconds:g} s are allowed")
        return Result(
            fault=cell.name,
            seed=seed,
            events=verdict.events,
            acked=verdict.acked,
            lost=verdict.lost,
            unexpected=verdict.unexpected,
            duplicated=verdict.duplicated,
            recovered=verdict.recovered,
            refused=verdict.refused,
            stale_settles=history.stale_settles,
            stale_accepted=verdict.stale_accepted,
            recovery_seconds=None if recovery is None else round(recovery, 2),
            seconds=round(time.monotonic() - began, 1),
            broken=[*verdict.broken, *broken],
            notes=rig.notes,
            mutant=mutant,
        )


def _in_fleet(rig: Rig, load: Load) -> tuple[History, list[str]]:
    with rig.cell.around(rig) if rig.cell.around else contextlib.nullcontext() as rig.around:
        return _under_load(rig, load)


def _under_load(rig: Rig, load: Load) -> tuple[History, list[str]]:
    broken: list[str] = []
    prober = Probe(rig.fleet)
    asyncio.run(prober.begin())
    client = rig.client = Client(load, "127.0.0.1", rig.fleet.http_port, rig.fleet.grpc_port)
    client.start()
    rig.wait_acked(int(load.events * LEAD_PART))
    # Together with the load: the fault works on a fleet that is busy.
    try:
        rig.cell.inject(rig)
    finally:
        client.fault_is_over()
        sent = client.join()
    try:
        wait_until(lambda: _depth(rig) == PROBES, rig.cell.drain_seconds, "all events to be settled")
    except AssertionError as e:
        broken.append(f"{e}; depth {_depth(rig)}")
    stale, taken = asyncio.run(prober.finish())
    ran, told = functions.runs(rig.fleet.data)
    ended = rig.ended()
    return (
        History(
            sent=sent,
            ran=ran,
            ended=ended,
            max_function_errors=MAX_FUNCTION_ERRORS,
            destination=told,
            named_lost=frozenset(rig.named_lost),
            stale_settles=stale,
            stale_accepted=taken,
            may_repeat=rig.cell.may_repeat,
        ),
        broken,
    )


def _depth(rig: Rig) -> int:
    try:
        return rig.fleet.depth()
    except Exception:
        # A node that is away just now has no depth to tell.
        return -1


def _left_behind(folder: Path) -> list[str]:
    """Processes of the fleet that outlived it (I7); they are ended here, by pid."""

    def left() -> list[psutil.Process]:
        return [one for one in psutil.process_iter(["cmdline"]) if one.pid != os.getpid() and _is_of(one, folder)]

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not left(), END_SECONDS)
    found = left()
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [f"process {one.pid} was left behind: {_command(one)}" for one in found]


def _is_of(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        environment: dict[str, Any] = process.environ()
        return str(environment.get("EVENFLOW_DATA_DIR", "")).startswith(str(folder))
    return False


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return "gone since"
