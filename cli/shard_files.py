"""Shard files of a data directory that no node serves: found, and looked after by a process of the queue's own."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.failures import CliError

_NAME = re.compile(r"shard-(\d{4,})\.db")


def node_folder(data: Path, shard_id: int, node_id: str = "") -> Path:
    """The folder of the node that has this shard's file, or had it. CliError: none, or several."""
    folders = sorted(path for path in (data / "queue").glob("*") if path.is_dir())
    if node_id:
        found = [path for path in folders if path.name == node_id]
    else:
        found = [path for path in folders if shard_id in shard_ids(path)]
    if not found:
        wanted = f"of node {node_id} " if node_id else ""
        raise CliError(f"no file {wanted}of shard {shard_id} is below {data / 'queue'}: is --data right?")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CliError(f"several nodes have files of shard {shard_id} ({names}): name one with --node")
    return found[0]


def shard_ids(folder: Path) -> set[int]:
    """Shards whose file is in this node's folder, or that its manifest names."""
    found = {int(match[1]) for path in folder.glob("shard-*.db") if (match := _NAME.fullmatch(path.name))}
    try:
        named = json.loads((folder / "manifest.json").read_text())["shards"]
        found |= {int(number) for number in named}
    except (OSError, ValueError, KeyError, TypeError):
        # The tool says what is wrong with it.
        return found
    return found


def run_tool(command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run one command of services.queue.offline; (exit code, its answer). CliError: it refused."""
    done = subprocess.run(_line(command, arguments), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise CliError(_refusal(done.stderr), done.returncode or 1) from None
    return done.returncode, dict(answer)


def stream_tool(command: str, *arguments: str) -> dict[str, Any]:
    """The same for one that writes its result to our stdout and its answer to stderr. CliError: it refused."""
    done = subprocess.run(_line(command, arguments), stderr=subprocess.PIPE, text=True, check=False)
    try:
        return dict(json.loads(done.stderr.splitlines()[-1]))
    except (ValueError, IndexError):
        raise CliError(_refusal(done.stderr), done.returncode or 1) from None


def _line(command: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-P", "-m", "services.queue.offline", command, *arguments]


def _refusal(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "the tool ended without a word"
