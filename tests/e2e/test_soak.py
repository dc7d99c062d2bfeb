"""`python -m loadtest.soak` on a real fleet of its own: the shortest run from end to end, bad options, Ctrl-C."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.kit.waiting import wait_until

# Two minutes of load; the rest is for a machine that is busy with other tests.
pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(420)]
RUN_SECONDS = 390.0
START_SECONDS = 120.0
RUN = ["--minutes", "2", "--rate", "20", "--sample-seconds", "2", "--keep"]
# As far as they can be told from a machine that others use: memory and latency are not.
MUST_BE_FLAT = {
    "accepted events that did not end",
    "sends refused, dropped or unanswered",
    "nodes that ended meanwhile",
    "WAL files",
    "outcome rows",
    "dead letters",
}


def soak(*arguments: str) -> "subprocess.Popen[str]":
    """The command as a child in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "loadtest.soak", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_shortest_soak_from_end_to_end() -> None:
    """Nothing is lost, the tables fill and stay bounded, every process and door was looked at."""
    process = soak(*RUN)
    try:
        page, said = process.communicate(timeout=RUN_SECONDS)
    finally:
        # Its fleet ends with it.
        process.kill()
    kept = re.search(r"data and logs are in (\S+)", said)
    assert kept is not None, said
    try:
        facts = json.loads(Path(kept.group(1), "soak.json").read_text())
    finally:
        shutil.rmtree(kept.group(1), ignore_errors=True)
    findings = {one["name"]: one for one in facts["findings"]}
    assert not [one for name, one in findings.items() if name in MUST_BE_FLAT and not one["is_flat"]]
    assert set(findings) >= MUST_BE_FLAT
    assert process.returncode == (0 if facts["flat"] else 1)
    assert facts["ledger"]["accepted"] > 20 * 60 and facts["ledger"]["delivered"] > 0 == facts["ledger"]["lost"]
    nodes = facts["samples"][-1]["nodes"]
    assert {"queue-0", "queue-1", "poller-1", "runtime-1", "frontend-0", "control", "sandboxes"} <= set(nodes)
    assert facts["samples"][-1]["dead_letters"] > 0 and facts["samples"][-1]["disk"]["wal"] > 0
    for by_quantile in facts["latencies_ms"].values():
        assert len(by_quantile["p99"]) > 30
    assert "# Soak" in page and "queue.dead_letter_keep_seconds=60" in page


def test_options_that_make_no_run_are_refused() -> None:
    """With what to do, and the exit code of bad options."""
    process = soak("--minutes", "2", "--sample-seconds", "60")
    _, said = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2 and "give more --minutes" in said


def test_ctrl_c_ends_everything() -> None:
    """The fleet, the drivers and the folder are gone."""
    process = soak("--minutes", "2", "--sample-seconds", "1")
    try:
        # The first look is told once the load goes on.
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        next(line for line in lines if re.search(r"^ *\d+ s: .* fds", line))
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 130 and "interrupted" in said and "data and logs" not in said
        wait_until(lambda: not any(one.is_running() for one in children), 30.0, "children that run on")
    finally:
        process.kill()
