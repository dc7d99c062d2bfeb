"""Finds the runtimes of this machine: Pythons, Node.js, AWS's client for it. Each is run once before it is believed."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from services.policy.function_rules import NODE_RUNTIMES, PROVIDED_RUNTIMES, PYTHON_RUNTIMES
from services.runtime.runtimes import Interpreter, NodeClient, NodeProgram, RuntimeTable
from services.runtime.settings import RuntimeSettings

MAX_CANDIDATES = 32
PROBES_AT_ONCE = 4
PROBE_SECONDS = 5.0
MAX_MANIFEST_BYTES = 65_536
CLIENT_PACKAGE = "aws-lambda-ric"
HOST_NODE_MODULES = Path(__file__).parent / "node" / "node_modules"
_PROBE = (
    "import json, sys, sysconfig as s; print(json.dumps([sys.executable, sys.implementation.name, "
    "'.'.join(map(str, sys.version_info[:3])), [sys.base_prefix, sys.base_exec_prefix, "
    "s.get_path('stdlib'), s.get_path('platstdlib')]]))"
)
log = logging.getLogger(__name__)


def own_interpreter() -> Interpreter:
    """The Python that this process runs on."""
    roots = {sys.base_prefix, sys.base_exec_prefix, sys.prefix}
    roots.update(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
    return Interpreter(sys.executable, ".".join(map(str, sys.version_info[:3])), tuple(sorted(roots)))


class Runtimes:
    """The host's table; what is beyond the own Python is looked for when it is first wanted."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.own = own_interpreter()
        self._settings = settings
        self._looking: asyncio.Task[RuntimeTable] | None = None

    def known(self) -> RuntimeTable:
        """What is known by now, without a look at the machine."""
        if self._looking is not None and self._looking.done() and not self._looking.cancelled():
            return self._looking.result()
        return RuntimeTable(self.own)

    async def table(self, runtime: str = "") -> RuntimeTable:
        """The whole table, or at least what this runtime needs: most need no look at the machine."""
        if runtime in ("python3", f"python{self.own.line}", *PROVIDED_RUNTIMES):
            return RuntimeTable(self.own)
        if self._looking is None:
            self._looking = asyncio.create_task(asyncio.to_thread(discover, self._settings, self.own), name="runtimes")
        return await asyncio.shield(self._looking)


def discover(settings: RuntimeSettings, own: Interpreter) -> RuntimeTable:
    """All that this machine has; takes some 100 ms, up to seconds where a program hangs."""
    asked = _paths_in(settings.pythons)
    python_paths = _python_candidates(asked, own)
    node_paths = _paths_in(settings.node) or _on_path(["node", "nodejs"])[:MAX_CANDIDATES]
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        pythons = dict(zip(python_paths, pool.map(_interpreter, python_paths), strict=True))
        nodes = dict(zip(node_paths, pool.map(_node, node_paths), strict=True))
    table = RuntimeTable(own, _first_of_line(pythons.values()), _first_of_major(nodes.values()), _host_client(settings))
    for path in asked:
        if pythons.get(path) not in table.pythons.values():
            log.warning("runtime.pythons: %s is not offered: it does not run, or another one of its version is", path)
    if settings.node and not table.nodes:
        log.warning("runtime.node: nothing in %s is a Node.js that runs", settings.node)
    log.info("runtimes: %s", ", ".join(table.names()))
    return table


def package_client(code_dir: str) -> NodeClient | None:
    """The Node client that a package brings in its own node_modules."""
    entry = _entry_of(Path(code_dir) / "node_modules")
    return NodeClient("", entry) if entry is not None else None


def _host_client(settings: RuntimeSettings) -> NodeClient | None:
    modules = Path(settings.node_client) if settings.node_client else HOST_NODE_MODULES
    entry = _entry_of(modules)
    return NodeClient(os.path.realpath(modules.parent), entry) if entry is not None else None


def _entry_of(modules: Path) -> str | None:
    """The client's program as its package.json names it; None when it is not there."""
    folder = modules / CLIENT_PACKAGE
    try:
        with open(folder / "package.json", "rb") as file:
            manifest: Any = json.loads(file.read(MAX_MANIFEST_BYTES))
        programs = manifest["bin"]
        program = programs if isinstance(programs, str) else programs[CLIENT_PACKAGE]
        path = os.path.normpath(folder / program)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not os.path.isfile(path) or not path.startswith(f"{folder}/"):
        return None
    return f"node_modules/{CLIENT_PACKAGE}/{os.path.relpath(path, folder)}"


def _python_candidates(asked: list[str], own: Interpreter) -> list[str]:
    """What was asked for, then PATH, then what is installed beside this Python; its own version is there already."""
    names = [name for name in PYTHON_RUNTIMES if name != f"python{own.line}"]
    siblings = sorted(str(path) for path in Path(sys.base_prefix).parent.glob("*/bin/python3.*"))
    named = [path for path in siblings if os.path.basename(path) in names]
    return [*dict.fromkeys([*asked, *_on_path(names), *named])][:MAX_CANDIDATES]


def _on_path(names: Iterable[str]) -> list[str]:
    """Every program of these names in PATH: the first may be a shim that cannot run."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = (shutil.which(name, path=folder) for name in names for folder in folders if os.path.isabs(folder))
    return [path for path in found if path is not None]


def _interpreter(path: str) -> Interpreter | None:
    try:
        executable, implementation, version, roots = json.loads(_output_of([path, "-I", "-S", "-c", _PROBE]))
    except ValueError:
        return None
    if implementation != "cpython" or not executable:
        return None
    return Interpreter(os.path.realpath(executable), version, tuple(sorted({*roots})))


def _node(path: str) -> NodeProgram | None:
    version = _output_of([path, "--version"]).strip()
    if not version.startswith("v"):
        return None
    executable = os.path.realpath(path)
    prefix = os.path.dirname(os.path.dirname(executable))
    return NodeProgram(executable, version, () if prefix in ("/", "/usr", "/usr/local") else (prefix,))


def _output_of(command: list[str]) -> str:
    """What a program prints; "" when it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_SECONDS,
            check=True,
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


def _first_of_line(found: Iterable[Interpreter | None]) -> dict[str, Interpreter]:
    lines: dict[str, Interpreter] = {}
    for one in found:
        if one is not None and f"python{one.line}" in PYTHON_RUNTIMES:
            lines.setdefault(one.line, one)
    return lines


def _first_of_major(found: Iterable[NodeProgram | None]) -> dict[str, NodeProgram]:
    majors: dict[str, NodeProgram] = {}
    for one in found:
        major = one.version[1:].partition(".")[0] if one is not None else ""
        if one is not None and f"nodejs{major}.x" in NODE_RUNTIMES:
            majors.setdefault(major, one)
    return majors


def _paths_in(setting: str) -> list[str]:
    return [path.strip() for path in setting.split(",") if path.strip()]
