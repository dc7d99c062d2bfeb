"""Finds the runtimes of this machine: Pythons, Node.js, AWS's client for it. Each is run once before it is believed."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from services.policy.function_rules import NODE_RUNTIMES, PYTHON_RUNTIMES
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
T = TypeVar("T")
log = logging.getLogger(__name__)


def own_interpreter() -> Interpreter:
    """The Python that this process runs on."""
    roots = {sys.base_prefix, sys.base_exec_prefix, sys.prefix}
    roots.update(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib"))
    return Interpreter(sys.executable, ".".join(map(str, sys.version_info[:3])), tuple(sorted(roots)))


class Runtimes:
    """The host's table; what is beyond the own Python is looked for when it is first wanted, each kind by itself."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.own = own_interpreter()
        self._settings = settings
        self._pythons: asyncio.Task[dict[str, Interpreter]] | None = None
        self._nodes: asyncio.Task[dict[str, NodeProgram]] | None = None

    def known(self) -> RuntimeTable:
        """What is known by now, without a look at the machine."""
        return RuntimeTable(self.own, _found(self._pythons), _found(self._nodes), host_client(self._settings))

    async def table(self, runtime: str = "") -> RuntimeTable:
        """The whole table, or at least what this runtime needs: most need no look at the machine."""
        wants_all = not runtime
        if wants_all or (runtime in PYTHON_RUNTIMES and runtime != f"python{self.own.line}"):
            if self._pythons is None:
                looking = asyncio.to_thread(find_pythons, self._settings, self.own)
                self._pythons = asyncio.create_task(looking, name="find pythons")
            await asyncio.shield(self._pythons)
        if wants_all or runtime in NODE_RUNTIMES:
            if self._nodes is None:
                self._nodes = asyncio.create_task(asyncio.to_thread(find_nodes, self._settings), name="find nodes")
            await asyncio.shield(self._nodes)
        return self.known()


def _found(looking: "asyncio.Task[dict[str, T]] | None") -> dict[str, T]:
    return looking.result() if looking is not None and looking.done() else {}


def find_pythons(settings: RuntimeSettings, own: Interpreter) -> dict[str, Interpreter]:
    """Further Pythons by "3.12"; takes some 100 ms, up to seconds where a program hangs."""
    asked = _paths_in(settings.pythons)
    found = _probe(_interpreter, _python_candidates(asked, own))
    lines: dict[str, Interpreter] = {}
    for one in found.values():
        if one is not None and f"python{one.line}" in PYTHON_RUNTIMES and one.line != own.line:
            lines.setdefault(one.line, one)
    for path in asked:
        if found.get(path) not in lines.values():
            log.warning("runtime.pythons: %s is not offered: it does not run, or another one of its version is", path)
    log.info("further Pythons: %s", ", ".join(one.version for one in lines.values()) or "none")
    return lines


def find_nodes(settings: RuntimeSettings) -> dict[str, NodeProgram]:
    """Node.js by major, such as "20"."""
    found = _probe(_node, _paths_in(settings.node) or _on_path(["node", "nodejs"]))
    majors: dict[str, NodeProgram] = {}
    for one in found.values():
        major = one.version[1:].partition(".")[0] if one is not None else ""
        if one is not None and f"nodejs{major}.x" in NODE_RUNTIMES:
            majors.setdefault(major, one)
    if settings.node and not majors:
        log.warning("runtime.node: nothing in %s is a Node.js that runs", settings.node)
    log.info("Node.js: %s", ", ".join(one.version for one in majors.values()) or "none")
    return majors


def _probe(look: Callable[[str], T | None], paths: list[str]) -> dict[str, T | None]:
    paths = paths[:MAX_CANDIDATES]
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        return dict(zip(paths, pool.map(look, paths), strict=True))


def package_client(code_dir: str) -> NodeClient | None:
    """The Node client that a package brings in its own node_modules."""
    entry = _entry_of(Path(code_dir) / "node_modules")
    return NodeClient("", entry) if entry is not None else None


def host_client(settings: RuntimeSettings) -> NodeClient | None:
    """The host's own copy of the Node client."""
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
    return [*dict.fromkeys([*asked, *_on_path(names), *named])]


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


def _paths_in(setting: str) -> list[str]:
    return [path.strip() for path in setting.split(",") if path.strip()]
