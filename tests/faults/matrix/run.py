"""One cell under one seed: start, load, fault, drain, look, judge, stop, and nothing left behind."""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import psutil

from tests.faults.matrix import functions, loop
from tests.faults.matrix.cell import Cell, Result
from tests.faults.matrix.checker import Verdict, check
from tests.faults.matrix.client import Client, Load
from tests.faults.matrix.history import History
from tests.faults.matrix.mutants import VARIABLE
from tests.faults.matrix.probe import FUNCTION, MOST_LEFT, Probe
from tests.faults.matrix.rig import Rig
from tests.kit.waiting import wait_until

# Of the load, before the fault begins.
LEAD_PART = 0.2
# AWS's three runs of a failing event: retries of the functions are the default two.
MAX_FUNCTION_ERRORS = 3
EVENTS_PER_SECOND = 1_000.0
END_SECONDS = 10.0
MAX_TOLD_CHARACTERS = 500
PROBE_SECONDS = 90.0
MUTANT_DRAIN_SECONDS = 15.0
NOTHING_SEEN = History((), (), (), MAX_FUNCTION_ERRORS)


def run(cell: Cell, seed: int, events: int, mutant: str = "", logs: Path | None = None) -> Result:
    """Run it. What does not come about within its bound (a node that does not serve again, a queue that does not
    drain) is told in `broken`, as whatever the checker finds is.

    logs: where the fleet's logs are kept when something broke.
    """
    began = time.monotonic()
    if lack := cell.needs():
        return _result(cell, seed, events, check(NOTHING_SEEN), mutant, skipped=lack)
    with tempfile.TemporaryDirectory(prefix="ef-fault-", dir="/tmp") as name:
        folder = Path(name)
        if mutant:
            # What it breaks may never end.
            cell = dataclasses.replace(cell, drain_seconds=min(cell.drain_seconds, MUTANT_DRAIN_SECONDS))
        rig = Rig(cell, seed, folder, {VARIABLE: mutant} if mutant else {})
        load = Load(**{"events": events, "per_second": EVENTS_PER_SECOND, "seed": seed, **cell.load})
        broken: list[str] = []
        history = NOTHING_SEEN
        try:
            with cell.before(rig) if cell.before else contextlib.nullcontext():
                try:
                    rig.fleet.start()
                    rig.deploy()
                    history, broken = _in_fleet(rig, load)
                finally:
                    rig.fleet.stop()
                if cell.judge is not None:
                    cell.judge(rig, history)
        except Exception as e:
            # A fleet that does not come up or does not answer is a finding like any other.
            broken.append(_in_one_line(e))
        finally:
            # After Ctrl-C, too.
            left = _left_behind(folder)
        verdict = check(history)
        recovery = max(rig.recoveries, default=None)
        if cell.bound_seconds and recovery is not None and recovery > cell.bound_seconds:
            broken.append(f"recovery took {recovery:.1f} s; {cell.bound_seconds:g} s are allowed")
        result = _result(cell, seed, load.events, verdict, mutant)
        result.stale_settles = history.stale_settles
        result.recovery_seconds = None if recovery is None else round(recovery, 2)
        result.seconds = round(time.monotonic() - began, 1)
        result.broken += [*broken, *rig.broken, *left]
        result.notes = rig.notes
        if result.broken and logs is not None:
            kept = logs / "-".join(filter(None, (cell.name, str(seed), mutant)))
            _keep_logs(rig, kept)
            result.notes.append(f"logs: {kept}")
        return result


def _result(cell: Cell, seed: int, asked: int, verdict: Verdict, mutant: str, skipped: str = "") -> Result:
    return Result(
        fault=cell.name,
        seed=seed,
        asked=asked,
        events=verdict.events,
        acked=verdict.acked,
        lost=verdict.lost,
        named_lost=verdict.named_lost,
        unexpected=verdict.unexpected,
        duplicated=verdict.duplicated,
        recovered=verdict.recovered,
        refused=verdict.refused,
        stale_settles=0,
        stale_accepted=verdict.stale_accepted,
        recovery_seconds=None,
        seconds=0.0,
        broken=list(verdict.broken),
        notes=[],
        mutant=mutant,
        skipped=skipped,
    )


def _in_fleet(rig: Rig, load: Load) -> tuple[History, list[str]]:
    with rig.cell.around(rig) if rig.cell.around else contextlib.nullcontext() as rig.around:
        return _under_load(rig, load)


def _under_load(rig: Rig, load: Load) -> tuple[History, list[str]]:
    broken: list[str] = []
    prober = Probe(rig.fleet)
    loop.run(prober.begin(), PROBE_SECONDS)
    client = rig.client = Client(load, "127.0.0.1", rig.fleet.http_port, rig.fleet.grpc_port)
    client.start()
    # Together with the load: the fault works on a fleet that is busy. What it meets is a finding, and what the client
    # was told until then is looked at all the same.
    try:
        rig.wait_acked(int(load.events * LEAD_PART))
        rig.cell.inject(rig)
    except Exception as e:
        broken.append(_in_one_line(e))
    except BaseException:
        client.cancel()
        raise
    finally:
        client.fault_is_over()
    sent = [*client.join(), *rig.sent]
    try:
        # A poller that was started anew knew of no pause, and may have run some of the probe's.
        rig.wait_depth(
            lambda depth: rig.standing <= depth <= rig.standing + MOST_LEFT and not rig.left_of(*functions.ALL),
            rig.cell.drain_seconds,
            "all events to be settled",
        )
    except AssertionError as e:
        broken.append(f"{e}; depth {rig.depth()}; {rig.unsettled()}")
    stale = taken = 0
    try:
        stale, taken = loop.run(prober.finish(lambda: rig.left_of(FUNCTION)), PROBE_SECONDS)
    except Exception as e:
        broken.append(f"the probe of stale receipts: {_in_one_line(e)}")
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
            damaged_shards=frozenset(rig.damaged_shards),
            stale_settles=stale,
            stale_accepted=taken,
            may_repeat=rig.cell.may_repeat,
        ),
        broken,
    )


def _in_one_line(error: Exception) -> str:
    """The fleet's own errors carry its logs, which are kept elsewhere."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{type(error).__name__}: {error.code().name}: {error.details()}"[:MAX_TOLD_CHARACTERS]
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text[:MAX_TOLD_CHARACTERS]}"


def _keep_logs(rig: Rig, folder: Path) -> None:
    shutil.copytree(rig.fleet.data / "logs", folder, dirs_exist_ok=True)
    (folder / "supervisor.txt").write_text("\n".join((*rig.fleet.output, *rig.fleet.errors)))


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
