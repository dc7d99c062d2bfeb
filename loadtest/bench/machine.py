"""What the figures were measured on: without it they mean nothing."""

import os
import platform
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import apsw

_ASK_SECONDS = 10.0


def describe_peers(redis_server: str | None, nats_server: str | None) -> dict[str, str | int]:
    """The peers' versions. `redis_server`, `nats_server`: the programs, if they are installed."""
    return {
        "huey_sqlite": sqlite3.sqlite_version,
        "redis": _say([redis_server, "--version"]) if redis_server else "absent",
        "nats": _say([nats_server, "--version"]) if nats_server else "absent",
        **_package_versions("huey", "taskiq", "taskiq-redis", "redis", "celery", "nats-py"),
    }


def describe_host(data_folder: Path) -> dict[str, str | int]:
    """CPU, cores, kernel, Python, SQLite, gRPC, file system, commit, time, and how busy the machine was before.

    `data_folder`: where the measured files were, whose file system is told.
    """
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory_mib(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "evenflow_sqlite": apsw.sqlite_lib_version(),
        "file_system": file_system_of(data_folder, Path("/proc/mounts").read_text()),
        "load_average": f"{os.getloadavg()[0]:.1f}",
        **_package_versions("grpcio"),
    }


def in_words(about: Mapping[str, Any]) -> str:
    """What describe_host told, for a page."""
    return (
        f"{about['time']}, commit {about['commit']}: {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_mib']} MiB, Linux {about['kernel']}, {about['file_system']}, Python {about['python']}, "
        f"SQLite {about['evenflow_sqlite']}, grpcio {about['grpcio_version']}"
    )


def commit() -> str:
    """The commit of this checkout, with "+" when files differ from it; "unknown" outside a checkout."""
    head = _say(["git", "rev-parse", "--short=12", "HEAD"])
    changed = _say(["git", "status", "--porcelain", "--untracked-files=no"])
    return f"{head}+" if head and changed else head or "unknown"


def file_system_of(folder: Path, mounts: str) -> str:
    """Kind of file system below a folder: the longest mount point that holds it."""
    path, best, kind = str(folder.resolve()), "", "unknown"
    for line in mounts.splitlines():
        _, point, this_kind, *_ = line.split()
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):
            best, kind = point, this_kind
    return kind


def cpu_model() -> str:
    """Name of the processor, or of its architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_mib() -> int:
    """Memory of the machine, MiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20


def _package_versions(*names: str) -> dict[str, str]:
    return {f"{name}_version".replace("-", "_"): _version_of(name) for name in names}


def _version_of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _say(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=False)
    except OSError as e:
        print(f"bench: {command[0]}: {e.strerror}", file=sys.stderr)
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
