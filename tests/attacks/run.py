"""Runs columns, each in a process and a folder of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.attacks.column import QUICK
from tests.attacks.columns import Column
from tests.attacks.reach import ROOT, ordinary_uid, reachable

# A short path: the sockets below hold 107 bytes.
FOLDER_PREFIX = "efa-"
COLUMN_SECONDS = 1_200.0


def run(
    column: Column, numbers: list[int], *, quick: bool = False, within_seconds: float = COLUMN_SECONDS
) -> dict[str, Any]:
    """The facts of this column; {"supported": False, "reason": ...} when it cannot be had here.

    quick: without the variants that take long. ChildProcessError: the column itself failed.
    """
    is_root = os.geteuid() == 0
    if column.user == "root" and not is_root:
        return {"supported": False, "reason": "the suite does not run as root"}
    uid = ordinary_uid() if is_root and column.user == "ordinary" else None
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir="/tmp"))
    if uid is not None:
        os.chown(folder, uid, uid)
    command = [sys.executable, "-m", "tests.attacks.column", column.name, str(folder), *map(str, numbers)]
    if quick:
        command.append(QUICK)
    try:
        done = subprocess.run(
            reachable(command, uid) if is_root else command,
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp", "GRPC_ENABLE_FORK_SUPPORT": "0"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=within_seconds,
            check=False,
        )
        if done.returncode:
            raise ChildProcessError(f"column {column.name} ended with {done.returncode}")
        facts: dict[str, Any] = json.loads(done.stdout)
        return facts
    finally:
        # Python's own way does not get to the end of folders that an attack made.
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False)
