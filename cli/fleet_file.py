"""DATA/fleet.json: what a running fleet tells the other commands."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.failures import CliError

FILE_NAME = "fleet.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One process: its role, pid (0: not running now), gRPC target and the socket of its metrics."""

    role: str
    pid: int
    target: str
    metrics_socket: str


@dataclass(frozen=True, slots=True)
class FleetFile:
    """One running fleet. `started_ticks` tells its supervisor from a later process with the same pid."""

    pid: int
    started_ticks: int
    http: str
    grpc: str
    data_dir: str
    run_dir: str
    token_file: str
    ready: bool
    nodes: dict[str, NodeEntry] = field(default_factory=dict)

    def of_role(self, role: str) -> dict[str, NodeEntry]:
        """The nodes of one role by id."""
        return {node_id: node for node_id, node in self.nodes.items() if node.role == role}

    def write(self, folder: Path) -> None:
        """Put it in place whole."""
        fresh = folder / f".{FILE_NAME}.new"
        with open(fresh, "w", encoding="utf-8", opener=_private) as file:
            json.dump({"format": FORMAT, **asdict(self)}, file, indent=2)
            file.write("\n")
        fresh.replace(folder / FILE_NAME)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read(folder: Path) -> FleetFile | None:
    """The file as it is; None: there is none, or it is not readable as one."""
    try:
        found = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        if found.pop("format", None) != FORMAT:
            return None
        nodes = {node_id: NodeEntry(**node) for node_id, node in found.pop("nodes").items()}
        return FleetFile(nodes=nodes, **found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def running(folder: Path) -> FleetFile:
    """The fleet that runs on this data directory. CliError: none does."""
    fleet = read(folder)
    if fleet is None or started_ticks(fleet.pid) != fleet.started_ticks:
        raise CliError(f"no fleet is running on {folder}: start one with `evenflow up`, or name its data with --data")
    return fleet


def remove(folder: Path) -> None:
    """The fleet is gone."""
    (folder / FILE_NAME).unlink(missing_ok=True)


def started_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0: there is no such process, -1: nobody tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0 if os.path.isdir("/proc/self") else -1
    # The name, in brackets, may hold spaces and brackets.
    return int(stat.rpartition(")")[2].split()[19])
