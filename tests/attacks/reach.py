"""Runs a command, for a suite that is root, where other users reach the interpreter; as an ordinary user if wanted.

The interpreter may lie where only root may go, such as below /root. Then the command gets a view of the machine in
which that way is open: an empty folder in front of the closed one, with what is needed bound in its place.
"""

import os
import shlex
import stat
import sys
from pathlib import Path

# Not a uid of a sandbox, nor "nobody": limits count by user, and others may be running tests.
FIRST_UID, UIDS = 64_000, 999
ROOT = Path(__file__).parents[2]


def ordinary_uid() -> int:
    """One for this process."""
    return FIRST_UID + os.getpid() % UIDS


def reachable(command: list[str], uid: int | None) -> list[str]:
    """The command with the way opened and the user changed; uid None: root stays root."""
    change = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
    if uid is None:
        change = []
    needed = [Path(os.path.realpath(path)) for path in (sys.base_prefix, sys.prefix, ROOT)]
    closed: dict[Path, list[Path]] = {}
    for path in needed:
        folder = _first_closed(path)
        if folder is not None:
            closed.setdefault(folder, []).append(path)
    if not closed:
        return [*change, *command]
    lines = ["set -e", "way=$(mktemp -d /run/ef-way-XXXXXX)"]
    for folder, paths in closed.items():
        for number, path in enumerate(paths):
            lines += [f"mkdir $way/{number}", f"mount --bind {path} $way/{number}"]
        lines.append(f"mount -t tmpfs -o mode=755,size=1m none {folder}")
        for number, path in enumerate(paths):
            lines += [f"mkdir -p {path}", f"mount --bind $way/{number} {path}"]
            lines += [f"umount $way/{number}", f"rmdir $way/{number}"]
    lines.append("rmdir $way")
    lines.append(f"exec {shlex.join([*change, *command])}")
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]


def _first_closed(path: Path) -> Path | None:
    for folder in [*reversed(path.parents), path]:
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None
