"""How commands fail without a fleet: one line, an exit code, no traceback."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.commands.doctor import sqlite_is_safe

Evenflow = Callable[..., Any]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "retry.base_second=1"], ["retry.base_second", "did you mean retry.base_seconds"]),
        (["--set", "zzz=1"], ["zzz", "evenflow settings"]),
        (["--set", "retry.base_seconds"], ["KEY=VALUE"]),
        (["--set", "retry.base_seconds=soon"], ["retry.base_seconds", "a number"]),
        (["--set", "retry.base_seconds=-1"], ["retry.base_seconds", "0 to 3600"]),
        (["--set", "frontend.shard_choice=luck"], ["frontend.shard_choice", "best_of_two"]),
        (["--set", "data.dir=/elsewhere"], ["data.dir", "--data"]),
        (["--set", "fleet.shards=3"], ["fleet.shards", "--shards"]),
        (["--shards", "0"], ["--shards", "1 to 65536"]),
        (["--pollers", "0"], ["--pollers", "1 to 64"]),
        (["--http-port", "70000"], ["--http-port"]),
        (["--http-port", "9100", "--grpc-port", "9100"], ["must differ"]),
    ],
)
def test_a_wrong_option_of_up_is_named(
    evenflow: Evenflow, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    """Exit 2, one line with the option at fault and what would be right; no data directory is made."""
    done = evenflow("up", "--data", str(tmp_path / "data"), *arguments)
    (line,) = done.err.splitlines()
    assert done.code == 2
    assert line.startswith("error: ") and all(word in line for word in words), line
    assert not (tmp_path / "data").exists()


def test_a_data_directory_that_is_a_file(evenflow: Evenflow, tmp_path: Path) -> None:
    """It is named, with what is wrong."""
    (tmp_path / "file").write_text("")
    done = evenflow("up", "--data", str(tmp_path / "file"))
    assert done.code == 1
    assert done.err == f"error: data directory {tmp_path / 'file'} cannot be used: File exists\n"


def test_an_address_that_is_none(evenflow: Evenflow, tmp_path: Path) -> None:
    """--set http.listen must be HOST:PORT."""
    done = evenflow("up", "--data", str(tmp_path), "--set", "http.listen=nowhere")
    assert (done.code, done.err) == (1, "error: 'nowhere' is no address: HOST:PORT is expected\n")
    assert not (tmp_path / "fleet.json").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["functions"],
        ["shards"],
        ["events"],
        ["event", "01a21096-bfa5-7000-9c98-328572703ebe"],
        ["invoke", "f"],
        ["logs", "f"],
        ["dlq", "list"],
        ["dlq", "purge", "--all", "--yes"],
        ["top", "--once"],
    ],
)
def test_without_a_fleet_every_command_says_so(evenflow: Evenflow, tmp_path: Path, command: list[str]) -> None:
    """One line that says how to start one, exit 1."""
    done = evenflow(*command, "--data", str(tmp_path))
    assert done.code == 1
    assert done.err == (
        f"error: no fleet is running on {tmp_path}: start one with `evenflow up`, or name its data with --data\n"
    )


def test_a_fleet_file_of_a_dead_fleet_counts_for_nothing(evenflow: Evenflow, tmp_path: Path) -> None:
    """A later process with the same pid is not taken for the supervisor."""
    stale = {
        "format": 1,
        "pid": os.getpid(),
        "started_ticks": 1,
        "http": "http://127.0.0.1:1",
        "grpc": "127.0.0.1:2",
        "data_dir": str(tmp_path),
        "run_dir": "/nowhere",
        "token_file": "/nowhere/token",
        "ready": True,
        "nodes": {},
    }
    (tmp_path / "fleet.json").write_text(json.dumps(stale))
    assert "no fleet is running" in evenflow("functions", "--data", str(tmp_path)).err
    (tmp_path / "fleet.json").write_text('{"torn')
    assert "no fleet is running" in evenflow("functions", "--data", str(tmp_path)).err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["event", "12345"], 1, "is no request id"),
        (["trace", "12345"], 2, "neither a request id (a UUID) nor a trace id"),
        (["events", "--state", "lost"], 2, "available, delayed"),
        (["dlq", "redrive"], 2, "which ones?"),
        (["dlq", "purge", "01a21096-bfa5-7000-9c98-328572703ebe", "--all"], 2, "not both"),
        (["deploy", "/no/such/folder"], 1, "no such file or folder"),
        (["invoke", "f", "--payload", "@/no/such/file"], 1, "No such file"),
    ],
)
def test_a_wrong_argument_is_named(evenflow: Evenflow, arguments: list[str], code: int, words: str) -> None:
    """Before the fleet is asked."""
    done = evenflow(*arguments)
    assert done.code == code
    assert done.err.startswith("error: ") and words in done.err


def test_deploy_wants_a_name_where_no_manifest_gives_one(evenflow: Evenflow, tmp_path: Path) -> None:
    """And refuses options that the manifest gives."""
    assert "give --name and --handler (or write its evenflow.toml)" in evenflow("deploy", str(tmp_path)).err
    assert evenflow("deploy", str(tmp_path), "--name", "f").err.startswith(f"error: {tmp_path}: give --handler")
    (tmp_path / "evenflow.toml").write_text('[[functions]]\nname = "f"\nhandler = "f.f"\n')
    done = evenflow("deploy", str(tmp_path), "--memory-mb", "256")
    assert done.code == 2 and "--memory-mb" in done.err and "says that already" in done.err


def test_settings_lists_every_setting_with_its_bounds(evenflow: Evenflow) -> None:
    """But not those that the supervisor decides."""
    found = {row["key"]: row for row in json.loads(evenflow("settings", "--json").out)}
    assert found["retry.base_seconds"]["default"] == 60.0
    assert found["retry.base_seconds"]["maximum"] == 3_600
    assert "node.id" not in found and "run.dir" not in found
    assert "retry.base_seconds" in evenflow("settings").out


def test_doctor_looks_at_this_machine(evenflow: Evenflow, tmp_path: Path) -> None:
    """Python, SQLite and the disk are good enough here; each finding has a level."""
    findings = {one["what"]: one for one in json.loads(evenflow("doctor", "--json", "--data", str(tmp_path)).out)}
    assert {"python", "sqlite", "isolation", "http door", "grpc door", "inotify", "disk", "fsync"} <= set(findings)
    assert findings["python"]["level"] == findings["sqlite"]["level"] == "ok"
    assert findings["fleet"]["level"] == "note"


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ((3, 51, 3), True),
        ((3, 51, 2), False),
        ((3, 50, 7), True),
        ((3, 50, 6), False),
        ((3, 44, 6), True),
        ((3, 45, 1), False),
        ((3, 40, 1), False),
        ((3, 54, 1), True),
    ],
)
def test_which_sqlite_is_safe(version: tuple[int, ...], is_safe: bool) -> None:
    """The WAL-reset bug is in 3.7.0 to 3.51.2, but for two branches that have the fix."""
    assert sqlite_is_safe(version) is is_safe


def test_version_names_what_it_stands_on(evenflow: Evenflow) -> None:
    """Evenflow's own version first."""
    assert evenflow("version").out.startswith("evenflow 0.")
    assert set(json.loads(evenflow("version", "--json").out)) >= {"evenflow", "python", "sqlite", "grpcio"}
