"""`make demo` in short: the recording goes through a fleet of its own, and nothing stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.fleet
HOPS = (
    "frontend.invoke_async",
    "queue.enqueue",
    "queue.wait",
    "poller.attempt",
    "runtime.invoke",
    "sandbox.init",
    "sandbox.handler",
    "queue.settle",
    "poller.deliver",
)


def test_the_demo_shows_the_catalogue_line_and_every_hop_and_ends_by_itself(tmp_path: Path) -> None:
    """Exit 0; the catalogue's line, picture and audio paths, the tree with the chained function; nothing left."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo"],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(json.loads(text) for text in done.stdout.splitlines() if text.startswith("{"))
    assert line["title"] == "First light"
    assert line["duration_seconds"] == pytest.approx(6.39, abs=0.05)
    assert "waveforms/first-light.wav.png" in done.stdout
    assert "cleaned/first-light.wav" in done.stdout
    for hop in HOPS:
        assert hop in done.stdout
    # The chain: the accept of the second function is below the delivery of the first one's record.
    text = done.stdout
    deliver, chained = text.index("poller.deliver"), text.rindex("frontend.invoke_async")
    assert deliver < chained
    assert not list(tmp_path.iterdir()), "the demo's own folder and the fleet's sockets are gone"
    assert not [p.pid for p in psutil.process_iter(["environ"]) if str(tmp_path) in str(p.info["environ"])]
