"""`evenflow doctor`: what this machine offers, and what stands in a fleet's way."""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw
import grpc
import typer
from evenflow.runtime.v1 import runtime_pb2

from cli import fleet_file
from cli.commands.options import DataOption, JsonOption
from cli.commands.shards import describe_shards
from cli.connection import FleetConnection
from cli.failures import CliError
from cli.fleet_folder import data_folder
from cli.output import console, print_json, size_of, span_of_ms, table
from cli.supervisor.ports import check_free

MIN_PYTHON = (3, 11)
# The WAL-reset bug is in 3.7.0 to 3.51.2; these branches have the fix, too.
SAFE_SQLITE = (3, 51, 3)
SAFE_BRANCHES = ((3, 50, 7), (3, 44, 6))
FSYNC_SAMPLES = 20
SLOW_FSYNC_MS = 20.0
MIN_FREE_BYTES = 1 << 30
MIN_WATCHES = 8_192
MIN_OPEN_FILES = 4_096
LOOK_SECONDS = 30.0
STRONGEST_TIER = "c"
_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; level: ok, note (works, with less) or bad (does not work)."""

    what: str
    level: str
    found: str


# A shard whose file is closed for a move is on its way to be served again.
FINE_STATES = ("serving", "draining", "moving")


def doctor(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Look at what this machine offers a fleet.

    Python, SQLite, isolation, ports, limits, disk; exits 1 when something will not work.
    """
    folder = data_folder(data)
    checks: list[Callable[[], Finding]] = [
        _python,
        _sqlite,
        lambda: _isolation(data),
        lambda: _runtimes(data),
        lambda: _door(data, "http", 9000, "--http-port"),
        lambda: _door(data, "grpc", 9001, "--grpc-port"),
        _inotify,
        _open_files,
        lambda: _disk(folder),
        lambda: _fsync(folder),
        lambda: _fleet(data),
        lambda: _shards(data),
    ]
    findings = [check() for check in checks]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        shown = table("", "what", "found", fold=("found",))
        for finding in findings:
            shown.add_row(f"[{_COLOURS[finding.level]}]{finding.level}[/]", finding.what, finding.found)
        console().print(shown)
    if any(finding.level == "bad" for finding in findings):
        raise typer.Exit(1)


def sqlite_is_safe(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the fix of the WAL-reset bug. Pure."""
    return version >= SAFE_SQLITE or any(version[:2] == safe[:2] and version >= safe for safe in SAFE_BRANCHES)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok" if sys.version_info >= MIN_PYTHON else "bad", f"{version} ({sys.executable})")


def _sqlite() -> Finding:
    text = apsw.sqlite_lib_version()
    is_safe = sqlite_is_safe(tuple(int(part) for part in text.split(".")))
    return Finding(
        "sqlite", "ok" if is_safe else "bad", text if is_safe else f"{text} has the WAL-reset bug: update apsw"
    )


def _isolation(data: Path | None) -> Finding:
    """What is in force on the running fleet; else what this machine would give."""
    try:
        with FleetConnection(data) as fleet:
            hosts = {
                node_id: fleet.ask(host.DescribeHost, runtime_pb2.DescribeHostRequest())
                for node_id, host in fleet.hosts().items()
            }
        words = ", ".join(f"{node_id}: {host.isolation}" for node_id, host in hosts.items())
        return Finding("isolation", _level_of([host.isolation_tier for host in hosts.values()]), words)
    except (CliError, grpc.RpcError):
        pass
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "services.runtime.look"],
            check=True,
            capture_output=True,
            text=True,
            timeout=LOOK_SECONDS,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return Finding("isolation", "bad", "no sandbox can be started here")
    lacking = next(iter(found["missing"].items()), None)
    why = f"; for tier {lacking[0]}: {'; '.join(lacking[1])}" if lacking is not None else ""
    return Finding("isolation", _level_of([found["tier"]]), found["isolation"] + why)


def _level_of(tiers: Sequence[str]) -> str:
    return "ok" if all(tier == STRONGEST_TIER for tier in tiers) else "note"


def _runtimes(data: Path | None) -> Finding:
    """What every host of the running fleet can run."""
    try:
        with FleetConnection(data) as fleet:
            offered = [
                fleet.ask(host.DescribeHost, runtime_pb2.DescribeHostRequest(wants_runtimes=True)).runtimes
                for host in fleet.hosts().values()
            ]
    except (CliError, grpc.RpcError):
        return Finding("runtimes", "note", "no fleet is running here; its hosts say what they offer")
    everywhere = [name for name in offered[0] if all(name in names for names in offered)] if offered else []
    return Finding("runtimes", "ok" if everywhere else "bad", ", ".join(everywhere) or "none on every host")


def _shards(data: Path | None) -> Finding:
    """Whether every shard of the running fleet is served."""
    try:
        with FleetConnection(data) as fleet:
            rows, silent = describe_shards(fleet)
    except (CliError, grpc.RpcError):
        return Finding("shards", "note", "no fleet is running here")
    lost = [f"shard {row['shard_id']} is {row['state']}" for row in rows if row["state"] not in FINE_STATES]
    lost += [f"{node_id} does not answer" for node_id in silent]
    return Finding("shards", "bad" if lost else "ok", "; ".join(lost) or f"{len(rows)} served")


def _door(data: Path | None, name: str, port: int, option: str) -> Finding:
    """Where the running fleet listens; else whether it could at the usual port."""
    try:
        fleet = fleet_file.running(data_folder(data))
        return Finding(f"{name} door", "ok", f"this fleet listens at {fleet.http if name == 'http' else fleet.grpc}")
    except CliError:
        pass
    try:
        check_free(f"127.0.0.1:{port}", option)
    except CliError as e:
        return Finding(f"{name} door", "note", e.message)
    return Finding(f"{name} door", "ok", f"port {port} is free")


def _inotify() -> Finding:
    try:
        watches = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
        instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    except (OSError, ValueError):
        return Finding("inotify", "bad", "not there: buckets cannot be watched")
    level = "ok" if watches >= MIN_WATCHES else "note"
    return Finding("inotify", level, f"{watches:,} folders may be watched, {instances:,} instances")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    level = "ok" if soft >= MIN_OPEN_FILES else "note"
    return Finding(
        "open files", level, f"{soft:,} (hard limit {hard:,})" + ("" if level == "ok" else ": ulimit -n raises it")
    )


def _existing(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder


def _disk(folder: Path) -> Finding:
    free_bytes = shutil.disk_usage(_existing(folder)).free
    return Finding("disk", "ok" if free_bytes >= MIN_FREE_BYTES else "note", f"{size_of(free_bytes)} free")


def _fsync(folder: Path) -> Finding:
    """How long a commit waits for the disk."""
    times_ms = []
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            for _ in range(FSYNC_SAMPLES):
                file.write(b"\0" * 4_096)
                file.flush()
                started = time.perf_counter()
                os.fsync(file.fileno())
                times_ms.append((time.perf_counter() - started) * 1_000)
    except OSError as e:
        return Finding("fsync", "bad", f"{folder}: {e.strerror}")
    median_ms = statistics.median(times_ms)
    level = "ok" if median_ms < SLOW_FSYNC_MS else "note"
    return Finding(
        "fsync", level, f"{span_of_ms(median_ms)} (median of {FSYNC_SAMPLES}, worst {span_of_ms(max(times_ms))})"
    )


def _fleet(data: Path | None) -> Finding:
    try:
        fleet = fleet_file.running(data_folder(data))
    except CliError as e:
        return Finding("fleet", "note", e.message)
    down = [node_id for node_id, node in fleet.nodes.items() if not node.pid]
    if down:
        return Finding("fleet", "bad", f"pid {fleet.pid}, but {', '.join(down)} not running now")
    return Finding("fleet", "ok", f"pid {fleet.pid}, {len(fleet.nodes)} services, {fleet.http}, grpc {fleet.grpc}")
