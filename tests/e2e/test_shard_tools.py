"""`evenflow shards ...` and `evenflow dlq redrive --rate` on a real fleet, running and stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.app import main
from cli.commands.shards import describe_shards
from tests.kit.fleet import Fleet
from tests.kit.waiting import wait_until

pytestmark = [pytest.mark.fleet, pytest.mark.long, pytest.mark.timeout(120)]
Cli = Callable[..., str]
FAILING = "def handler(event, context): raise ValueError('no')\n"
EVENTS = 30


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """`cli(fleet, "shards", "check")` runs a command in this process; its stdout, and stderr of one that is to fail."""

    def run(fleet: Fleet, *arguments: str, code: int = 0) -> str:
        monkeypatch.setenv("EVENFLOW_DATA", str(fleet.data))
        monkeypatch.setattr(sys, "argv", ["evenflow", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        done = capfd.readouterr()
        assert (ended.value.code or 0) == code, done.out + done.err
        return done.out + (done.err if code else "")

    return run


def dead_letters(fleet: Fleet) -> int:
    """Over all shards."""
    with fleet.connect() as connection:
        rows, silent = describe_shards(connection)
    assert not silent
    return sum(row["dead_letters"] for row in rows)


def quarantine_by_damage(fleet: Fleet, shard_id: int) -> None:
    """Remove the shard's file under the running node."""
    path = fleet.data / "queue" / "queue-0" / f"shard-{shard_id:04d}.db"
    path.rename(path.with_suffix(".taken"))
    with fleet.connect() as connection:
        wait_until(lambda: describe_shards(connection)[0][shard_id]["state"] == "quarantined", 10, "the loss is seen")


def test_shards_are_looked_after_from_the_command_line(tmp_path: Path, cli: Cli) -> None:
    """Check, back up and restore while the fleet runs; check, repair and export once it has stopped."""
    fleet = Fleet({"retry.base_seconds": "0.01"}, data=tmp_path / "data", arguments=["--shards", "2"])
    with fleet:
        fleet.deploy("failing", FAILING)
        client = fleet.lambda_client()
        for number in range(EVENTS):
            client.invoke(FunctionName="failing", InvocationType="Event", Payload=json.dumps({"n": number}))
        wait_until(lambda: dead_letters(fleet) == EVENTS, 30, "all events have failed for good")
        words = cli(fleet, "shards", "check")
        assert words.count(": whole (a copy, taken while it served;") == 2
        assert "shard 0 is serving: only a quarantined shard" in cli(fleet, "shards", "repair", "0", code=1)
        assert "take a backup and export that" in cli(fleet, "shards", "export", "0", code=1)
        assert "options go behind the subcommand" in cli(fleet, "shards", "--json", "check", code=2)

        copy = tmp_path / "copy.db"
        assert "0 unfinished events" in cli(fleet, "shards", "backup", "0", "--out", str(copy))
        in_copy = cli(fleet, "shards", "export", "0", "--from", str(copy)).splitlines()
        assert len(in_copy) == json.loads(cli(fleet, "shards", "--json"))[0]["dead_letters"] > 0
        assert all(json.loads(line)["error_type"] == "ValueError" for line in in_copy)

        quarantine_by_damage(fleet, 0)
        assert "is missing" in cli(fleet, "shards", "check", "0", code=1)
        assert "--start-empty" in cli(fleet, "shards", "repair", "0", code=1)
        assert "--accept-old-copy" in cli(fleet, "shards", "restore", "0", "--from", str(copy), code=1)
        assert "shard 0 is quarantined: shard-0000.db is missing" in cli(fleet, "shards", "reopen", "0", code=1)
        words = cli(fleet, "shards", "restore", "0", "--from", str(copy), "--accept-old-copy")
        assert "the shard is serving" in words and "run again" in words
        assert dead_letters(fleet) == EVENTS

        redrive_with_ctrl_c(fleet)
    words = cli(fleet, "shards", "check", "--full")
    assert words.count(": whole (its file;") == 2
    report = json.loads(cli(fleet, "shards", "repair", "1", "--json"))
    assert report["state"] == "to be served at the next start" and not report["refused_rows"]
    lines = cli(fleet, "shards", "export", "1").splitlines()
    assert len(lines) == report["kept"]["events"] + report["kept"]["delayed"] + report["kept"]["dead_letters"]


def redrive_with_ctrl_c(fleet: Fleet) -> None:
    """At eight a second it is stopped after a second or so, and says how many went; the rest is still there."""
    # A function that runs: what was redriven does not come back as dead.
    fleet.deploy("failing", "def handler(event, context): return 1\n")
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", "dlq", "redrive", "--all", "--rate", "8"],
        env={**os.environ, "EVENFLOW_DATA": str(fleet.data)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: dead_letters(fleet) < EVENTS - 3, 20, "some are redriven")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    seconds = time.monotonic() - started
    (moved,) = re.findall(r"error: stopped; redriven: (\d+)\n", err)
    assert process.returncode == 130 and dead_letters(fleet) == EVENTS - int(moved) > 0
    assert int(moved) <= seconds * 8 + 4
