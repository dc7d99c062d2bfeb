"""`evenflow plan` on a real fleet of its own: a tiny plan from end to end, and Ctrl-C in the middle of one."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.commands.load import EXIT_VOID
from loadtest.plan import files
from loadtest.plan.measured import SERVICES
from tests.kit.waiting import wait_until

# Seconds on an idle machine; the bounds are for one that is busy with other tests.
pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(270)]
# One rate, which holds on any machine: the objective is wide, as other tests run beside this one.
RATE = 30
TINY = [
    *("plan", "--quick", "--run-seconds", "1", "--warm-up-seconds", "0.2", "--repeats", "1", "--curve-points", "0"),
    *("--callers", "2", "--start-rate", str(RATE), "--max-rate", str(RATE), "--arrivals", "constant"),
    *("--accept-p99-ms", "30000", "--start-p99-ms", "30000", "--shards", "2", "--set", "runtime.max_sandboxes=4"),
]
PLAN_SECONDS = 240.0


def evenflow(*arguments: str) -> "subprocess.Popen[str]":
    """The command as a child in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_tiny_plan_from_end_to_end(tmp_path: Path) -> None:
    """A fleet is started, measured and ended; page and JSON are written, and the JSON loads as what was measured."""
    page = tmp_path / "tiny.html"
    process = evenflow(*TINY, "--out", str(page))
    try:
        told, errors = process.communicate(timeout=PLAN_SECONDS)
    finally:
        # Its fleet ends with it.
        process.kill()
    # On a busy machine most runs may be void: then it says so.
    assert process.returncode == (EXIT_VOID if "NOT VALID" in told else 0), errors
    assert str(page) in told and "runs were void" in told.splitlines()[-1]
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    measured, found = files.load(page.with_suffix(".json"))
    assert measured.fleet.replicas == {"control": 1, "queue": 1, "runtime": 1, "poller": 1, "frontend": 1}
    assert (measured.fleet.shards, measured.fleet.slots) == (2, 4)
    assert measured.spec.keys == () and measured.spec.records == ""
    # On a busy machine any run may be void, at any rate, and then proves nothing.
    purposes = {run.purpose for run in measured.runs}
    assert {"search", "closed"} <= purposes <= {"search", "repeat", "closed"}
    for run in measured.runs:
        if run.result.void or run.callers:
            continue
        assert 0 < run.result.accepted <= run.result.sent
        assert run.settled > 0 and run.ended is not None
        assert run.samples and all(len(one.depths) == 2 for one in run.samples)
        assert set(SERVICES) <= set(run.cpu_seconds)
    assert measured.memory_bytes["queue"] > 1 << 20
    if found.best.per_second:
        assert "repeat" in purposes and found.best.per_second <= RATE
        assert measured.drain is not None and (measured.drain.backlog > 0 or measured.drain.void)
        assert measured.drain.seconds is None or measured.drain.depths[-1][1] <= measured.drain.settled_depth


def test_ctrl_c_in_the_middle_leaves_no_process_and_keeps_the_runs(tmp_path: Path) -> None:
    """After the first run: everything that was started ends, and what was measured can be loaded."""
    page = tmp_path / "cut.html"
    process = evenflow(*TINY, "--repeats", "50", "--out", str(page))
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first.startswith(f"search, {RATE}/s:"), first
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("services.queue" in one.cmdline() for one in family)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PLAN_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130
    partial = page.with_suffix(".partial.json")
    assert str(partial) in errors.splitlines()[-1]
    measured, _ = files.load(partial)
    assert measured.runs[0].purpose == "search" and measured.runs[0].per_second == RATE
    assert measured.drain is None and not page.exists()
    wait_until(lambda: not any(one.is_running() for one in family), what="every process of the plan to be gone")
